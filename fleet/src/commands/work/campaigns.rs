//! The campaigns of a worker: each is a `firmcast update`, which tells what happens as JSON.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use firmcast_fleet::model::Stamp;
use firmcast_fleet::work::crew::{Campaign, Exit, HostEnd, ProgramEnd, Purpose, Sight, Sighting};
use firmcast_manager::news::{Kind, News};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::clock::now;
use crate::commands::firmcast::{self, Errand, Firmcast};

/// How often it is looked whether the leases still hold.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Something that happens in a campaign, or on the way to one.
pub(super) enum Happening {
    Stage { number: u64, host: String, stage: String },
    End { number: u64, host: String, end: HostEnd },
    Sighting { number: u64, host: String, sighting: Sighting },
    Exit { number: u64, words: String, exit: Exit },
    Fetched { release: String, result: Result<(), String> },
    Program { number: u64, ended: ProgramEnd },
}

/// A campaign that runs.
#[derive(Debug)]
struct Running {
    child: Child,
    /// Whether it was ended here, as the leases may have been over.
    is_cut: bool,
}

type Children = Arc<Mutex<BTreeMap<u64, Running>>>;

/// The campaigns that run.
pub(super) struct Campaigns {
    firmcast: Firmcast,
    news: Sender<Happening>,
    children: Children,
    /// When the leases are over, unless they are renewed.
    deadline: Arc<AtomicI64>,
}

impl Campaigns {
    /// Returns none yet. A thread of its own ends all of them when the leases are over: the worker
    /// may wait for its store just then.
    pub(super) fn new(firmcast: Firmcast, news: Sender<Happening>) -> anyhow::Result<Self> {
        let children = Children::default();
        let deadline = Arc::new(AtomicI64::new(Stamp::MAX));
        let (watched, end) = (Arc::clone(&children), Arc::clone(&deadline));
        thread::Builder::new()
            .name("leases".into())
            .spawn(move || {
                loop {
                    if now() >= end.load(Ordering::Relaxed) {
                        for running in locked(&watched).values_mut() {
                            running.is_cut |= end_at_once(&mut running.child);
                        }
                    }
                    thread::sleep(LOOK_INTERVAL);
                }
            })
            .context("cannot start a thread")?;
        Ok(Self { firmcast, news, children, deadline })
    }

    /// When the leases are over, unless they are renewed.
    pub(super) fn deadline(&self) -> Arc<AtomicI64> {
        Arc::clone(&self.deadline)
    }

    pub(super) fn set_deadline(&self, at: Stamp) {
        self.deadline.store(at, Ordering::Relaxed);
    }

    /// Begins a campaign. It dies with this process, however that ends.
    pub(super) fn begin(&self, campaign: &Campaign) -> anyhow::Result<()> {
        let errand = match campaign.purpose {
            Purpose::Update => Errand::Update,
            Purpose::Look => Errand::Look,
        };
        let mut child = self.firmcast.update(&campaign.release, &campaign.hosts, errand)?;
        let output = child.stdout.take().context("no standard output")?;
        let errors = child.stderr.take().context("no standard error")?;
        let number = campaign.number;
        locked(&self.children).insert(number, Running { child, is_cut: false });
        let (news, children) = (self.news.clone(), Arc::clone(&self.children));
        thread::Builder::new()
            .name(format!("campaign {number}"))
            .spawn(move || follow(number, output, errors, &news, &children))
            .context("cannot start a thread")?;
        Ok(())
    }

    /// Ends a campaign as if the power failed.
    pub(super) fn kill(&self, number: u64) {
        if let Some(running) = locked(&self.children).get_mut(&number) {
            end_at_once(&mut running.child);
        }
    }

    /// Asks all campaigns to end.
    pub(super) fn signal_all(&self, signal: Signal) {
        for running in locked(&self.children).values() {
            if let Ok(pid) = i32::try_from(running.child.id()) {
                let _ = kill(Pid::from_raw(pid), signal);
            }
        }
    }

    /// It is over.
    pub(super) fn forget(&self, number: u64) {
        locked(&self.children).remove(&number);
    }
}

/// What is kept is a map: nobody leaves it half changed.
fn locked(children: &Children) -> MutexGuard<'_, BTreeMap<u64, Running>> {
    children.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says whether it still ran.
fn end_at_once(child: &mut Child) -> bool {
    let runs = matches!(child.try_wait(), Ok(None));
    // One that has ended already needs no end.
    let _ = child.kill();
    runs
}

/// Passes on what a campaign tells, until it is over.
fn follow(
    number: u64,
    output: impl Read,
    errors: impl Read + Send + 'static,
    news: &Sender<Happening>,
    children: &Children,
) {
    let last_words = thread::spawn(move || firmcast::last_words(errors));
    let mut begun = false;
    for told in firmcast::news(output) {
        begun |= matches!(told, News::Started { .. });
        if let Some(happening) = happening(number, told)
            && news.send(happening).is_err()
        {
            return;
        }
    }
    let (status, is_cut) = wait(number, children).unzip();
    let words = match (last_words.join(), status.flatten()) {
        (Ok(Some(words)), _) => words,
        (_, Some(status)) => format!("firmcast update ended: {status}"),
        _ => "firmcast update ended".to_owned(),
    };
    let exit = match (is_cut, begun) {
        (Some(true), _) => Exit::CutOff,
        (_, true) => Exit::BrokeOff,
        (_, false) => Exit::NotBegun,
    };
    let _ = news.send(Happening::Exit { number, words, exit });
}

/// Waits for the end of a campaign, and says whether it was ended here. Meanwhile it can be ended
/// by others: nobody holds the map.
fn wait(number: u64, children: &Children) -> Option<(Option<ExitStatus>, bool)> {
    loop {
        let mut children = locked(children);
        let running = children.get_mut(&number)?;
        match running.child.try_wait() {
            Ok(None) => {}
            ended => return Some((ended.ok().flatten(), running.is_cut)),
        }
        drop(children);
        thread::sleep(LOOK_INTERVAL);
    }
}

fn happening(number: u64, news: News) -> Option<Happening> {
    match news {
        News::Stage { host, stage } => Some(Happening::Stage { number, host, stage }),
        News::Result(result) if result.kind == Kind::Look => {
            let (sight, detail) = (Sight::of_reason(&result.reason), result.to_text());
            let sighting = Sighting { sight, reason: result.reason, detail };
            Some(Happening::Sighting { number, host: result.host, sighting })
        }
        News::Result(result) => {
            let condition = result.condition.as_ref().map(|condition| format!("-{condition}"));
            let end = HostEnd {
                confirmed: result.confirmed,
                reason: result.reason.clone(),
                // As FlashState::from_word reads it.
                flash: result.flash.clone() + &condition.unwrap_or_default(),
                detail: result.to_text(),
            };
            Some(Happening::End { number, host: result.host, end })
        }
        _ => None,
    }
}
