#![allow(clippy::unwrap_used)]

use super::bulletin::Bulletin;
use super::feed::{Live, Message};
use crate::web::limits::{BEHIND_MAX, BULLETINS_KEPT_MAX, STREAMS_MAX};

fn bulletin(last: i64) -> Bulletin {
    Bulletin { last, text: format!("id: {last}\n\n") }
}

#[test]
fn who_connects_again_gets_what_it_missed_or_is_told_that_it_is_not_kept() {
    let live = Live::default();
    live.begin(40);
    (41..=45).for_each(|last| live.tell(bulletin(last * 10)));
    let missed = |after| {
        let missed = live.listen(after).unwrap().missed;
        missed.map(|missed| missed.iter().map(|each| each.last).collect::<Vec<_>>())
    };
    assert_eq!(missed(430), Some(vec![440, 450]));
    assert_eq!(missed(435), Some(vec![440, 450]));
    assert_eq!(missed(40), Some(vec![410, 420, 430, 440, 450]));
    assert_eq!(missed(450), Some(vec![]));
    assert_eq!(missed(39), None, "before all that is kept");
    assert_eq!(missed(451), None, "of another store");
    let many = 460..460 + BULLETINS_KEPT_MAX as i64;
    many.for_each(|last| live.tell(bulletin(last)));
    assert_eq!(missed(440), None);
    assert!(missed(450).is_some());
}

#[tokio::test]
async fn a_stream_that_is_too_slow_is_dropped_and_nobody_waits_for_it() {
    let live = Live::default();
    let mut slow = live.listen(0).unwrap();
    (1..=BEHIND_MAX as i64 + 1).for_each(|last| live.tell(bulletin(last)));
    assert!(slow.feed.recv().await.is_err());
    let mut quick = live.listen(0).unwrap();
    live.end();
    assert!(matches!(quick.feed.recv().await, Ok(Message::End)));
}

#[test]
fn streams_have_a_limit() {
    let live = Live::default();
    let mut listeners: Vec<_> = (0..STREAMS_MAX).map(|_| live.listen(0).unwrap()).collect();
    assert!(live.listen(0).is_none());
    listeners.pop();
    assert!(live.listen(0).is_some());
}
