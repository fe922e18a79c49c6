//! A PostgreSQL server of its own, on a Unix socket in a temporary folder.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long the server may take to start.
const START_MAX: Duration = Duration::from_secs(60);

const WANTED: &str = "PostgreSQL is missing: install Debian's package postgresql, or set \
                      POSTGRES_BIN to the folder of initdb";

/// Ends with the value.
pub(crate) struct Server {
    folder: TempDir,
    child: Child,
    databases: AtomicU32,
    port: u16,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_in(folder(), 5432, &["-c", "listen_addresses="])
    }

    /// One that listens on loopback too, with a certificate for localhost. In its folder are
    /// `ca.crt` of its authority and `other.crt` of another one, and certificates of that authority
    /// for its user, `fleet.crt`, and for another one, `ben.crt`; each with its key.
    pub(crate) fn start_with_tls() -> Self {
        let folder = folder();
        let path = |name: &str| folder.path().join(name).display().to_string();
        authority(&path, "ca", "The right authority");
        authority(&path, "other", "Another authority");
        certificate(&path, "server", "localhost", Signer::Authority);
        certificate(&path, "fleet", "fleet", Signer::Authority);
        certificate(&path, "ben", "ben", Signer::Authority);
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let files = [
            ("ssl_cert_file", "server.crt"),
            ("ssl_key_file", "server.key"),
            ("ssl_ca_file", "ca.crt"),
        ];
        let files = files.map(|(key, name)| format!("{key}={}", path(name)));
        let mut options = vec!["-c", "listen_addresses=127.0.0.1"];
        options.extend(files.iter().flat_map(|file| ["-c", file]));
        let server = Self::start_in(folder, port, &options);
        server.reload("ALTER SYSTEM SET ssl = on");
        server
    }

    fn start_in(folder: TempDir, port: u16, options: &[&str]) -> Self {
        let data = folder.path().join("data");
        let mut initdb = program("initdb");
        initdb.args(["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--username=fleet"]);
        initdb.arg("--no-sync").arg("-D").arg(&data);
        let made = initdb.current_dir("/").output().expect(WANTED);
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut postgres = program("postgres");
        postgres.arg("-D").arg(&data).arg("-k").arg(folder.path());
        postgres.arg("-p").arg(port.to_string()).args(options);
        postgres.args(["-c", "fsync=off"]).current_dir("/");
        // An operator's default must not matter.
        postgres.args(["-c", "default_transaction_isolation=repeatable read"]);
        let child = postgres.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect(WANTED);
        let server = Self { folder, child, databases: AtomicU32::new(0), port };
        server.await_answer();
        server
    }

    fn await_answer(&self) {
        let begun = Instant::now();
        while let Err(error) = postgres::Client::connect(&self.url("postgres"), postgres::NoTls) {
            assert!(begun.elapsed() < START_MAX, "PostgreSQL does not answer: {error}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn url(&self, database: &str) -> String {
        let (folder, port) = (self.folder.path().display(), self.port);
        format!("host={folder} port={port} user=fleet dbname={database}")
    }

    /// The database postgres, over TCP.
    pub(crate) fn address(&self, host: &str, options: &str) -> String {
        format!("postgres://fleet@{host}:{}/postgres?{options}", self.port)
    }

    /// Where a file of its folder is.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub(crate) fn offer_no_tls(&self) {
        self.reload("ALTER SYSTEM SET ssl = off");
    }

    /// Asks who connects over TCP for a certificate, and for nothing else.
    pub(crate) fn want_certificates(&self) {
        fs::write(self.path("data/pg_hba.conf"), "local all all trust\nhostssl all all all cert\n")
            .unwrap();
        self.reload("SELECT 1");
    }

    /// Shows a certificate for localhost from now on that it signed itself, and wants none.
    pub(crate) fn sign_itself(&self, is_authority: bool) {
        let signer = Signer::Itself { is_authority };
        certificate(&|name: &str| self.path(name), "server", "localhost", signer);
        fs::write(self.path("data/pg_hba.conf"), "local all all trust\nhost all all all trust\n")
            .unwrap();
        self.reload("SELECT 1");
    }

    /// Changes a setting, and waits until new connections have it.
    fn reload(&self, sql: &str) {
        self.run("postgres", sql);
        self.run("postgres", "SELECT pg_reload_conf()");
        std::thread::sleep(Duration::from_millis(500));
    }

    /// How many sessions of the fleet's programs there were over TCP, and how many with TLS.
    pub(crate) fn sessions(&self) -> (i64, i64) {
        let mut client = postgres::Client::connect(&self.url("postgres"), postgres::NoTls).unwrap();
        let query = "SELECT COUNT(*), COUNT(*) FILTER (WHERE s.ssl) FROM pg_stat_ssl s
                     JOIN pg_stat_activity a USING (pid) WHERE a.client_addr IS NOT NULL";
        let row = client.query_one(query, &[]).unwrap();
        (row.get(0), row.get(1))
    }

    /// A new empty database, as the program is told of it.
    pub(crate) fn database(&self) -> String {
        let name = format!("fleet{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.run("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    fn run(&self, database: &str, sql: &str) {
        let mut client = postgres::Client::connect(&self.url(database), postgres::NoTls).unwrap();
        client.batch_execute(sql).unwrap();
    }

    /// Ends all connections of the fleet's programs.
    pub(crate) fn hang_up(&self) {
        self.run(
            "postgres",
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
             WHERE application_name = 'firmcast-fleet'",
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGQUIT is PostgreSQL's immediate shutdown: nothing here is to be kept. The child is
        // runuser, which forwards SIGTERM only; the server's own number is in its folder.
        let file = self.folder.path().join("data/postmaster.pid");
        if let Some(pid) =
            fs::read_to_string(file).ok().and_then(|text| text.lines().next().map(str::to_owned))
        {
            let _ = Command::new("kill").args(["-QUIT", &pid]).status();
        }
        let _ = self.child.wait();
    }
}

/// A folder that the server's user may write to.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    folder
}

/// Makes an authority: `NAME.crt`, `NAME.key`.
fn authority(path: &dyn Fn(&str) -> String, name: &str, subject: &str) {
    let (key, crt) = (path(&format!("{name}.key")), path(&format!("{name}.crt")));
    let subject = format!("/CN={subject}");
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        &key,
        "-out",
        &crt,
        "-subj",
        &subject,
        "-days",
        "30",
    ]);
}

/// Who signs a certificate.
#[derive(Clone, Copy)]
enum Signer {
    /// The authority `ca`.
    Authority,
    /// Nobody else: it may be one of an authority itself.
    Itself { is_authority: bool },
}

/// Makes a certificate for a name: `NAME.crt`, `NAME.key`.
fn certificate(path: &dyn Fn(&str) -> String, name: &str, subject: &str, signer: Signer) {
    let (key, crt) = (path(&format!("{name}.key")), path(&format!("{name}.crt")));
    let names = format!("subjectAltName=DNS:{subject}");
    let subject = format!("/CN={subject}");
    let (ca, ca_key) = (path("ca.crt"), path("ca.key"));
    let mut words = vec!["req", "-x509"];
    let constraint = match signer {
        Signer::Authority => {
            words.extend(["-CA", &ca, "-CAkey", &ca_key]);
            "basicConstraints=critical,CA:FALSE"
        }
        Signer::Itself { is_authority: false } => "basicConstraints=critical,CA:FALSE",
        Signer::Itself { is_authority: true } => "basicConstraints=critical,CA:TRUE",
    };
    words.extend([
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        &key,
        "-out",
        &crt,
        "-subj",
        &subject,
        "-addext",
        &names,
        "-addext",
        constraint,
        "-days",
        "30",
    ]);
    openssl(&words);
}

/// As the server's user, whose the keys have to be.
fn openssl(arguments: &[&str]) {
    let mut openssl = as_server("openssl".as_ref());
    let done = openssl.args(arguments).current_dir("/").output().expect("openssl is missing");
    assert!(done.status.success(), "openssl: {}", String::from_utf8_lossy(&done.stderr));
}

/// A program of the server. It refuses to run as root: then it runs as Debian's user for it.
fn program(name: &str) -> Command {
    let path = binaries().join(name);
    assert!(path.exists(), "{WANTED}");
    as_server(&path)
}

fn as_server(path: &Path) -> Command {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        return Command::new(path);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(path);
    command
}

fn binaries() -> PathBuf {
    if let Some(folder) = std::env::var_os("POSTGRES_BIN") {
        return folder.into();
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
    found.sort();
    found.pop().unwrap_or_else(|| Path::new("/usr/lib/postgresql/15/bin").to_owned())
}
