//! Schemas of other versions, and a server that is gone.

use std::time::Duration;

use firmcast_fleet::store::requests::NewRollout;
use firmcast_fleet::store::{Backup, FILE, PostgresStore, SqliteStore, Store, StoreError};
use tempfile::TempDir;

use super::samples::{Stores, host, release, rollout};
use super::server::Server;

const VERSION: [&str; 2] = [
    "CREATE TABLE schema_version (version BIGINT NOT NULL)",
    "INSERT INTO schema_version (version) VALUES (0)",
];

#[test]
fn sqlite_migrates_an_older_schema_after_a_backup_and_refuses_a_newer_one() {
    let folder = TempDir::new().unwrap();
    let file = rusqlite::Connection::open(folder.path().join(FILE)).unwrap();
    file.execute_batch(&VERSION.join(";")).unwrap();
    let mut store = SqliteStore::open(folder.path()).unwrap();
    store.put_hosts(&[host("a", "north")]).unwrap();
    let backup = folder.path().join(format!("{FILE}.schema-0"));
    let backup = rusqlite::Connection::open(backup).unwrap();
    let version = |file: &rusqlite::Connection| {
        file.query_row("SELECT version FROM schema_version", [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    assert_eq!((version(&backup), version(&file)), (0, 1));
    file.execute("UPDATE schema_version SET version = 7", []).unwrap();
    let newer = SqliteStore::open(folder.path()).unwrap_err();
    assert!(matches!(newer, StoreError::Newer { found: 7, known: 1 }), "{newer}");
}

#[test]
fn postgres_migrates_an_older_schema_once_there_is_a_backup() {
    let server = Server::start();
    let url = server.database();
    let mut client = postgres::Client::connect(&url, postgres::NoTls).unwrap();
    client.batch_execute(&VERSION.join(";")).unwrap();
    let older = PostgresStore::open(&url, Backup::Unconfirmed).unwrap_err();
    assert!(matches!(older, StoreError::BackupNeeded { found: 0, known: 1 }), "{older}");
    let mut store = PostgresStore::open(&url, Backup::Confirmed).unwrap();
    store.put_hosts(&[host("a", "north")]).unwrap();
    client.batch_execute("UPDATE schema_version SET version = 7").unwrap();
    let newer = PostgresStore::open(&url, Backup::Confirmed).unwrap_err();
    assert!(matches!(newer, StoreError::Newer { found: 7, known: 1 }), "{newer}");
}

/// The connection is cut while a transaction waits for a lock, in its middle.
#[test]
fn a_transaction_that_lost_its_server_leaves_nothing_and_the_next_call_connects() {
    let server = Server::start();
    let url = server.database();
    let mut store = PostgresStore::open(&url, Backup::Unconfirmed).unwrap();
    store.put_hosts(&[host("a", "north"), host("b", "north")]).unwrap();
    store.add_release(&release()).unwrap();
    let mut client = postgres::Client::connect(&url, postgres::NoTls).unwrap();
    let mut other = client.transaction().unwrap();
    // The rollout and its waves are inserted before this stops it.
    other.execute("LOCK TABLE attempts IN EXCLUSIVE MODE", &[]).unwrap();
    let new = rollout("first", &[("a", 0, "north"), ("b", 1, "north")]);
    let (refused, mut store) = std::thread::scope(|scope| {
        let caller = scope.spawn(|| (store.create_rollout(&new).unwrap_err(), store));
        std::thread::sleep(Duration::from_millis(500));
        server.hang_up();
        caller.join().unwrap()
    });
    assert!(matches!(refused, StoreError::Gone { .. }), "{refused}");
    other.rollback().unwrap();
    assert_eq!(store.rollouts(0, 10).unwrap(), []);
    assert_eq!(store.events(0, 10).unwrap(), []);
    store.create_rollout(&new).unwrap();
    // Idle connections are cut, too; whoever notices first may be told so once.
    server.hang_up();
    let again = store.rollouts(0, 10).or_else(|_| store.rollouts(0, 10));
    assert_eq!(again.unwrap().len(), 1);
}

#[test]
fn an_event_wakes_who_waits() {
    let mut stores = Stores::new();
    let url = stores.server.database();
    let mut waiter = PostgresStore::open(&url, Backup::Unconfirmed).unwrap();
    let mut store = PostgresStore::open(&url, Backup::Unconfirmed).unwrap();
    store.put_hosts(&[host("a", "north")]).unwrap();
    store.add_release(&release()).unwrap();
    store.create_rollout(&rollout("first", &[("a", 0, "north")])).unwrap();
    let begun = std::time::Instant::now();
    waiter.wait(Duration::from_secs(60)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30), "woken, not timed out");
    for (_, store) in &mut stores.each {
        store.wait(Duration::from_millis(1)).unwrap();
    }
}

/// An event that is slow to be kept comes before one that got its number later.
#[test]
fn who_reads_on_misses_no_event_of_a_slow_transaction() {
    let server = Server::start();
    let url = server.database();
    let open = || PostgresStore::open(&url, Backup::Unconfirmed).unwrap();
    let mut store = open();
    store.put_hosts(&[host("a", "north")]).unwrap();
    store.add_release(&release()).unwrap();
    let mut client = postgres::Client::connect(&url, postgres::NoTls).unwrap();
    let linger = "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.by_whom = 'slow' THEN PERFORM pg_sleep(2); END IF; RETURN NEW; END $$;
        CREATE TRIGGER linger AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION linger()";
    client.batch_execute(linger).unwrap();
    let new = |name: &str| {
        let new = rollout(name, &[("a", 0, "north")]);
        NewRollout { created_by: name.to_owned(), ..new }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| open().create_rollout(&new("slow")).unwrap());
        std::thread::sleep(Duration::from_millis(500));
        store.create_rollout(&new("quick")).unwrap();
        let events = store.events(0, 10).unwrap();
        let by: Vec<&str> = events.iter().map(|event| event.by.as_str()).collect();
        assert_eq!(by, ["slow", "quick"]);
    });
}
