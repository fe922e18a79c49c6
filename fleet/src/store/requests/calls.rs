use std::collections::BTreeMap;

use crate::model::{Call, CallNews, CallTurn, EventKind};
use crate::store::error::StoreError;
use crate::store::text;

/// Maximum number of dead hosts that one worker answers, and of those that one call returns.
pub const CALLS_MAX: usize = 10_000;

/// How long a dead host that is not heard again is kept, in microseconds: a recovery image that may
/// not ask for help any more tells a manager so once an hour.
pub const CALL_KEPT_US: i64 = 3 * 3_600_000_000;

pub(in crate::store) fn check_calls(
    worker: &str,
    calls: &[Call],
    news: &[CallNews],
) -> Result<(), StoreError> {
    text::name("the name of a worker", worker)?;
    text::at_most("the number of dead hosts of a worker", calls.len(), CALLS_MAX)?;
    text::at_most("the number of news of dead hosts", news.len(), CALLS_MAX)?;
    let hosts = calls.iter().map(|call| &call.host).chain(news.iter().map(|news| &news.host));
    hosts.into_iter().try_for_each(|host| text::name("the name of a host", host))?;
    calls.iter().try_for_each(|call| text::words("the name of a site", &call.site))
}

/// Returns a call as it is kept: what hosts say of themselves may be any text.
pub(in crate::store) fn kept_call(worker: &str, call: &Call) -> Call {
    let mut kept = call.clone();
    worker.clone_into(&mut kept.worker);
    for words in [
        &mut kept.address,
        &mut kept.finding,
        &mut kept.why,
        &mut kept.stage,
        &mut kept.version,
        &mut kept.held,
        &mut kept.last,
    ] {
        *words = text::detail(words);
    }
    kept
}

/// Returns what an event says of it.
pub(in crate::store) fn told_call(what: &CallTurn) -> EventKind {
    match what {
        CallTurn::Called => EventKind::Called,
        CallTurn::Rescued(_) => EventKind::Rescued,
        CallTurn::Failed => EventKind::RescueFailed,
        CallTurn::Parked => EventKind::Parked,
    }
}

/// Returns each host once, as who heard it last knows it.
pub(in crate::store) fn last_heard(calls: impl IntoIterator<Item = Call>) -> Vec<Call> {
    let mut last = BTreeMap::<String, Call>::new();
    for call in calls {
        let rank = |call: &Call| (call.heard_at, call.worker.clone());
        if last.get(&call.host).is_none_or(|known| rank(known) < rank(&call)) {
            last.insert(call.host.clone(), call);
        }
    }
    last.into_values().collect()
}
