//! `firmcast-fleet web`: the page, as a process.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use clap::Args;
use firmcast::keys;
use firmcast_fleet::web::limits::Patience;
use firmcast_fleet::web::{
    self, Door, Front, HeaderName, Live, Names, OpenStore, SeenCache, Site, StorePool,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::Place;
use super::terminal::{remark, say};

#[derive(Debug, Args)]
pub(crate) struct WebArgs {
    /// Listen at ADDRESS:PORT
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8420")]
    listen: SocketAddr,
    /// Answer to this name, too, as it stands in the browser's address; may be repeated
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// Listen where other machines reach it: a proxy in front does TLS and says who may look
    #[arg(long)]
    behind_proxy: bool,
    /// Where the proxy calls from; may be repeated
    #[arg(long = "proxy", value_name = "IP", requires = "behind_proxy",
        default_values = ["127.0.0.1", "::1"])]
    proxies: Vec<IpAddr>,
    /// The proxy says in this header who somebody is, for example X-Remote-User: who has a name may
    /// act. The proxy must remove the header from what others send
    #[arg(long, value_name = "NAME", requires = "behind_proxy")]
    user_header: Option<HeaderName>,
    /// Take approvals over HTTP that this public manager key, or the one in this file, has signed;
    /// may be repeated
    #[arg(long = "approver", value_name = "KEY")]
    approvers: Vec<String>,
}

impl WebArgs {
    /// Serves the page until it is told to stop.
    pub(crate) fn run(self, place: &Place) -> anyhow::Result<ExitCode> {
        ensure!(
            self.listen.ip().is_loopback() || self.behind_proxy,
            "{} can be reached from other machines, and the page has no TLS and shows all to \
             everybody: put a proxy with TLS and a login in front, let only that reach the page, \
             and add --behind-proxy",
            self.listen
        );
        // Says at once what is wrong with the store; later it may come and go.
        drop(place.store()?);
        let front = self.behind_proxy.then(|| Front {
            proxies: self.proxies.clone(),
            user_header: self.user_header.clone(),
        });
        let approvers = self.approvers.iter().map(|key| keys::load_public(key));
        let approvers = approvers.collect::<Result<_, _>>().context("an approver's key")?;
        let door = Arc::new(Door::new(place.state(), front, approvers));
        let place = place.clone();
        let open: OpenStore = Arc::new(move || place.open());
        raise_file_limit();
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start")?;
        runtime.block_on(self.serve(&open, door))?;
        // A thread that waits for the store does not keep the program from ending.
        runtime.shutdown_background();
        Ok(ExitCode::SUCCESS)
    }

    async fn serve(&self, open: &OpenStore, door: Arc<Door>) -> anyhow::Result<()> {
        let listener = TcpListener::bind(self.listen).await;
        let listener = listener.with_context(|| format!("cannot listen at {}", self.listen))?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot take signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot take signals")?;
        say(&format!("the page is at http://{}/", listener.local_addr()?));
        let site = Site {
            store: StorePool::start(open),
            live: Live::follow(open),
            seen: SeenCache::default(),
        };
        let live = site.live.clone();
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            live.end();
        };
        let pages = web::router(site, Names::new(&self.names), door);
        web::serve(listener, pages, Patience::default(), stop).await;
        Ok(())
    }
}

/// Lets the program have as many connections as the machine allows.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(errno) = raised {
        remark(&format!("the number of connections stays as it is: {errno}"));
    }
}
