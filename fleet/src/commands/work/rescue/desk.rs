//! Between the store and the service.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use firmcast_fleet::model::{Call, CallNews, Host, Release};
use firmcast_fleet::store::requests::CALLS_MAX;
use firmcast_fleet::store::{Store, all_releases};
use firmcast_fleet::work::rescue::{Draft, Heard, Hearing, NEWS_MAX, PolicyLimits};
use firmcast_manager::rescue::KNOWN_MAX;
use firmcast_manager::rescue::policy::{POLICY_SIZE_MAX, RULES_MAX};

use super::files::Files;
use super::service::{Run, Service};
use crate::commands::Place;
use crate::commands::firmcast::Firmcast;
use crate::commands::terminal::remark;
use crate::commands::work::fetcher::fetch;

/// How often it is looked which hosts the site has, and what they run.
const PLAN_INTERVAL: Duration = Duration::from_secs(60);

/// How long a service that was started may not answer.
const START_WAIT: Duration = Duration::from_secs(20);

/// How much later a host was heard counts as no news, in microseconds: it asks again and again.
const HEARD_ALIKE_US: i64 = 30_000_000;

/// Number of hosts that are read at a time: a large fleet takes no room here.
const PAGE_ROWS: usize = 500;

const POLICY_LIMITS: PolicyLimits = PolicyLimits { rules: RULES_MAX, bytes: POLICY_SIZE_MAX };

/// Who runs the service for a site.
pub(super) struct Desk {
    place: Place,
    site: String,
    worker: String,
    listen: SocketAddr,
    files: Option<Files>,
    firmcast: Firmcast,
    service: Service,
    store: Option<Box<dyn Store>>,
    hearing: Hearing,
    planned_at: Option<Instant>,
    /// What the store is to be told.
    news: Vec<CallNews>,
    /// What it was told last.
    told: Vec<Call>,
    trouble: String,
    /// Whether another worker has the files.
    waits: bool,
}

impl Desk {
    pub(super) fn new(
        place: Place,
        (site, worker): (&str, &str),
        firmcast: Firmcast,
        listen: SocketAddr,
    ) -> Self {
        Self {
            place,
            site: site.to_owned(),
            worker: worker.to_owned(),
            listen,
            files: None,
            service: Service::new(firmcast.clone(), listen),
            firmcast,
            store: None,
            hearing: Hearing::new(site),
            planned_at: None,
            news: Vec::new(),
            told: Vec::new(),
            trouble: String::new(),
            waits: false,
        }
    }

    /// Does what is due. What goes wrong is told once, and tried again.
    pub(super) fn turn(&mut self) {
        let trouble = self.work().err().map(|error| format!("{error:#}")).unwrap_or_default();
        if trouble != self.trouble {
            if !trouble.is_empty() {
                remark(&trouble);
            }
            self.trouble = trouble;
        }
    }

    fn work(&mut self) -> anyhow::Result<()> {
        if self.files.is_none() {
            self.files = Files::take(self.firmcast.place())?;
            if self.files.is_none() && !self.waits {
                let listen = self.listen;
                remark(&format!(
                    "another worker of this machine answers dead hosts at {listen}, and this one \
                     when that one is gone; if that one is of another site, give each an address \
                     by --rescue-listen"
                ));
            }
            self.waits = self.files.is_none();
        }
        let Some(mut files) = self.files.take() else { return Ok(()) };
        let worked = self.work_with(&mut files);
        self.files = Some(files);
        worked
    }

    fn work_with(&mut self, files: &mut Files) -> anyhow::Result<()> {
        // First: what was seen of hosts is in the plan.
        let heard = match self.service.runs_for() {
            Some(_) => self.hear(),
            None => Ok(()),
        };
        // A store that is away keeps nobody from being answered as it was planned last.
        let planned = self.plan(files);
        if files.are_there() {
            match self.service.run(files) {
                Run::Started => self.hearing = Hearing::new(&self.site),
                Run::Ended(words) => remark(&words),
                Run::Runs | Run::Waits => {}
            }
        }
        heard.and(planned)
    }

    /// Tells the service which hosts there are and what they get, when that is due.
    fn plan(&mut self, files: &mut Files) -> anyhow::Result<()> {
        if self.planned_at.is_some_and(|at| at.elapsed() < PLAN_INTERVAL) {
            return Ok(());
        }
        self.planned_at = Some(Instant::now());
        let cannot = "cannot plan for dead hosts";
        let releases = self.releases().context(cannot)?;
        let mut draft = Draft::new(&releases);
        let site = self.site.clone();
        for step in [Draft::count, Draft::weigh] {
            each_of_site(self.store()?, &site, |host| {
                step(&mut draft, host);
                Ok(())
            })
            .context(cannot)?;
        }
        let (wanted, digest) = (draft.releases(), draft.digest());
        let fetched = self.bring(&wanted);
        let shelf = self.place.shelf();
        let bundles = wanted.into_iter().filter(|release| shelf.has(release)).collect();
        if files.hold(digest, &bundles) {
            return fetched;
        }
        let plan = draft.plan(KNOWN_MAX, POLICY_LIMITS);
        let store = self.store()?;
        let left_out =
            files.write(plan, digest, bundles, &shelf, |take| each_of_site(store, &site, take))?;
        self.service.refresh();
        if left_out > 0 {
            remark(&format!(
                "{left_out} hosts of site {site} are not answered when they are dead: their keys \
                 are none, or there are too many"
            ));
        }
        fetched
    }

    /// The releases whose bundles can be had here.
    fn releases(&mut self) -> anyhow::Result<Vec<Release>> {
        let shelf = self.place.shelf();
        let store = self.store()?;
        let mut releases = Vec::new();
        for release in all_releases(store)? {
            if shelf.has(&release.digest) || store.has_bundle(&release.digest)? {
                releases.push(release);
            }
        }
        Ok(releases)
    }

    /// Fetches the next bundle that dead hosts may need and that is not here: a site that is cut
    /// off helps itself. What is here already is served first.
    fn bring(&mut self, wanted: &[String]) -> anyhow::Result<()> {
        let shelf = self.place.shelf();
        let missing: Vec<&String> = wanted.iter().filter(|digest| !shelf.has(digest)).collect();
        let Some(next) = missing.first() else { return Ok(()) };
        let has_some = missing.len() < wanted.len();
        if !has_some || self.service.runs_for().is_some() {
            fetch(&self.place, next).context("cannot get a bundle for dead hosts")?;
        }
        // At once: there may be more.
        self.planned_at = None;
        Ok(())
    }

    /// Hears what the service knows, and tells the store what is new.
    fn hear(&mut self) -> anyhow::Result<()> {
        let snapshot = match self.service.ask() {
            Ok(snapshot) => snapshot,
            // It is just about to listen.
            Err(_) if self.service.runs_for().is_some_and(|time| time < START_WAIT) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if snapshot.hosts.is_empty() && self.told.is_empty() && self.news.is_empty() {
            return Ok(());
        }
        let at = self.store()?.now()?;
        let mut releases = Vec::new();
        for host in &snapshot.hosts {
            let digest = digest_of(&host.file).map(str::to_owned);
            if let Some(digest) =
                digest.filter(|digest| !releases.iter().any(|(it, _)| it == digest))
            {
                let known = self.store()?.release(&digest)?;
                releases.push((digest, known.map_or(String::new(), |release| release.version)));
            }
        }
        let release = |file: &str| {
            let digest = digest_of(file)?;
            releases.iter().find(|(known, _)| known == digest).cloned()
        };
        let Heard { mut calls, news } = self.hearing.hear(&snapshot, at, release);
        calls.truncate(CALLS_MAX);
        let room = NEWS_MAX.saturating_sub(self.news.len());
        self.news.extend(news.into_iter().take(room));
        if self.news.is_empty() && are_alike(&calls, &self.told) {
            return Ok(());
        }
        let (worker, news) = (self.worker.clone(), std::mem::take(&mut self.news));
        let told = self.store()?.tell_calls(&worker, &calls, &news, at);
        match told {
            Ok(()) => self.told = calls,
            Err(_) => self.news = news,
        }
        Ok(told?)
    }

    fn store(&mut self) -> anyhow::Result<&mut dyn Store> {
        if self.store.is_none() {
            self.store = Some(self.place.open()?);
        }
        let store = self.store.as_mut().context("no store")?;
        Ok(store.as_mut())
    }

    /// Ends the service; who still calls is somebody else's.
    pub(super) fn close(mut self) {
        if let Err(error) = self.service.stop() {
            remark(&format!("{error:#}"));
        }
        if self.told.is_empty() {
            return;
        }
        let worker = self.worker.clone();
        let told = self.store().and_then(|store| {
            let at = store.now()?;
            Ok(store.tell_calls(&worker, &[], &[], at)?)
        });
        if let Err(error) = told {
            remark(&format!(
                "cannot tell that {} answers dead hosts no more: {error:#}",
                self.listen
            ));
        }
    }
}

/// Hands over each host of a site.
fn each_of_site(
    store: &mut dyn Store,
    site: &str,
    mut take: impl FnMut(&Host) -> io::Result<()>,
) -> io::Result<()> {
    let mut after = String::new();
    loop {
        let page = store.hosts(&after, PAGE_ROWS).map_err(io::Error::other)?;
        let Some(last) = page.last() else { return Ok(()) };
        after.clone_from(&last.name);
        page.iter().filter(|host| host.site() == site).try_for_each(&mut take)?;
    }
}

/// The digest of a bundle that is linked for the service.
fn digest_of(file: &str) -> Option<&str> {
    file.rsplit_once('.').map(|(digest, _)| digest)
}

/// Says whether the store need not be told: nothing is new but that hosts were heard again.
fn are_alike(calls: &[Call], told: &[Call]) -> bool {
    calls.len() == told.len()
        && calls.iter().zip(told).all(|(call, told)| {
            let is_recent = call.heard_at.saturating_sub(told.heard_at) < HEARD_ALIKE_US;
            is_recent
                && *call == Call { heard_at: call.heard_at, since: call.since, ..told.clone() }
        })
}
