//! TLS to PostgreSQL, with authorities of our own.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use firmcast_fleet::store::{Backup, PostgresStore, Store, StoreError};

use super::samples::host;
use super::server::Server;

/// Opens a database of the server at `name`, with these words on TLS, and uses it.
fn open(server: &Server, name: &str, tls: &str) -> Result<(), StoreError> {
    let url = server.address(name, tls);
    let mut store = PostgresStore::open(&url, Backup::Unconfirmed)?;
    store.put_hosts(&[host("a", "north")])?;
    // As the one who listens, on the same connection.
    store.wait(std::time::Duration::from_millis(1))?;
    let (all, encrypted) = server.sessions();
    assert!(all > 0 && all == encrypted, "{encrypted} of {all} sessions have TLS");
    Ok(())
}

#[track_caller]
fn refusal(server: &Server, name: &str, tls: &str) -> String {
    let error = open(server, name, tls).unwrap_err();
    assert!(matches!(error, StoreError::Tls { .. }), "{error:?}");
    error.to_string()
}

#[test]
fn the_database_is_who_the_operator_says_or_nothing_is_sent() {
    let server = Server::start_with_tls();
    let own = server.path("ca.crt");
    let trusting = |mode: &str, ca: &str| format!("sslmode={mode}&sslrootcert={ca}");

    // The certificate is for localhost. Its authority is not one of the system.
    open(&server, "localhost", &trusting("verify-full", &own)).unwrap();
    open(&server, "127.0.0.1", &trusting("verify-ca", &own)).unwrap();
    open(&server, "127.0.0.1", "sslmode=require").unwrap();
    open(&server, "localhost", "").unwrap();

    let name = refusal(&server, "127.0.0.1", &trusting("verify-full", &own));
    assert!(name.contains("is for localhost, not for 127.0.0.1"), "{name}");
    let other = refusal(&server, "localhost", &trusting("verify-full", &server.path("other.crt")));
    assert!(other.contains("signed by \"CN=The right authority\""), "{other}");
    assert!(other.contains("sslrootcert=FILE"), "{other}");
    let strict = refusal(&server, "127.0.0.1", &trusting("require", &server.path("other.crt")));
    assert!(strict.contains("not trusted here"), "{strict}");
    let absent = refusal(&server, "localhost", &trusting("verify-ca", "/absent.crt"));
    assert!(absent.contains("cannot use /absent.crt"), "{absent}");
    let empty = refusal(&server, "localhost", &trusting("verify-ca", "/dev/null"));
    assert!(empty.contains("no certificate of an authority in /dev/null"), "{empty}");

    who_connects_shows_a_certificate(&server);
    a_server_may_have_signed_its_own_certificate(&server);
    server.offer_no_tls();
    let plain = refusal(&server, "localhost", "sslmode=require");
    assert!(plain.contains("does not offer TLS"), "{plain}");
}

fn who_connects_shows_a_certificate(server: &Server) {
    server.want_certificates();
    let own = server.path("ca.crt");
    let showing = |cert: &str, key: &str| {
        let (cert, key) = (server.path(cert), server.path(key));
        format!("sslmode=verify-full&sslrootcert={own}&sslcert={cert}&sslkey={key}")
    };
    open(server, "localhost", &showing("fleet.crt", "fleet.key")).unwrap();
    let none = refusal(server, "localhost", &format!("sslmode=verify-full&sslrootcert={own}"));
    assert!(none.contains("requires a valid client certificate"), "{none}");
    assert!(none.contains("sslcert=FILE"), "{none}");
    let ben = refusal(server, "localhost", &showing("ben.crt", "ben.key"));
    assert!(ben.contains("failed for user \"fleet\""), "{ben}");
    let other = refusal(server, "localhost", &showing("other.crt", "other.key"));
    assert!(other.contains("ssl_ca_file"), "{other}");
    let mixed = refusal(server, "localhost", &showing("fleet.crt", "ben.key"));
    assert!(mixed.contains("do not go together"), "{mixed}");
    let key = server.path("fleet.key");
    std::fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
    let open_to_others = refusal(server, "localhost", &showing("fleet.crt", "fleet.key"));
    assert!(open_to_others.contains("its mode is 0640"), "{open_to_others}");
    assert!(open_to_others.contains("chmod 0600"), "{open_to_others}");
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&key, "no key").unwrap();
    let empty = refusal(server, "localhost", &showing("fleet.crt", "fleet.key"));
    assert!(empty.contains("expected a private key in PEM without a passphrase"), "{empty}");
}

fn a_server_may_have_signed_its_own_certificate(server: &Server) {
    let trusting = |mode: &str| format!("sslmode={mode}&sslrootcert={}", server.path("server.crt"));
    server.sign_itself(false);
    open(server, "localhost", &trusting("verify-full")).unwrap();
    open(server, "127.0.0.1", &trusting("verify-ca")).unwrap();
    server.sign_itself(true);
    let of_authority = refusal(server, "localhost", &trusting("verify-full"));
    assert!(of_authority.contains("basicConstraints=critical,CA:FALSE"), "{of_authority}");
}
