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
}

impl Server {
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let data = folder.path().join("data");
        let mut initdb = program("initdb");
        initdb.args(["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--username=fleet"]);
        initdb.arg("--no-sync").arg("-D").arg(&data);
        let made = initdb.current_dir("/").output().expect(WANTED);
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut postgres = program("postgres");
        postgres.arg("-D").arg(&data).arg("-k").arg(folder.path());
        postgres.args(["-c", "listen_addresses=", "-c", "fsync=off"]).current_dir("/");
        // An operator's default must not matter.
        postgres.args(["-c", "default_transaction_isolation=repeatable read"]);
        let child = postgres.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect(WANTED);
        let server = Self { folder, child, databases: AtomicU32::new(0) };
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
        format!("host={} user=fleet dbname={database}", self.folder.path().display())
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

/// A program of the server. It refuses to run as root: then it runs as Debian's user for it.
fn program(name: &str) -> Command {
    let path = binaries().join(name);
    assert!(path.exists(), "{WANTED}");
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
