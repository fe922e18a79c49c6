//! An event as a CloudEvent: version 1.0, the JSON format, in structured mode.

use serde::Serialize;

use crate::model::{Event, EventId, EventKind, RolloutId, Stamp};

/// What the types of all our events begin with.
const TYPE: &str = "firmcast.fleet.";

/// A message that is to be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its identity: the same in all tries. Receivers know by it what comes twice.
    pub id: String,
    /// What is sent, in JSON.
    pub body: Vec<u8>,
}

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    kind: String,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    datacontenttype: &'static str,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    number: EventId,
    #[serde(skip_serializing_if = "Option::is_none")]
    rollout: Option<Named<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wave: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    by: &'a str,
    detail: &'a str,
}

#[derive(Serialize)]
struct Named<'a> {
    id: RolloutId,
    name: &'a str,
}

impl Message {
    /// Returns what tells of an event. `rollout` is the name of the event's rollout, if it has one.
    pub fn of(event: &Event, rollout: Option<&str>, source: &str) -> Self {
        let id = event.id.to_string();
        let parts = Parts::of(event);
        let data = Data {
            number: event.id,
            rollout: event.rollout.zip(rollout).map(|(id, name)| Named { id, name }),
            host: event.host.as_deref(),
            wave: parts.wave,
            state: parts.state,
            reason: parts.reason,
            by: &event.by,
            detail: &event.detail,
        };
        let kind = format!("{TYPE}{}", word(event.kind));
        let subject = subject(rollout, event.host.as_deref());
        Self::emit(id, source, kind, event.at, subject, data)
    }

    /// Returns one that tells of nothing, for somebody who tries whether it comes through.
    pub fn trial(number: u64, by: &str, source: &str, at: Stamp) -> Self {
        let detail = "a trial; nothing happened";
        let data = Data {
            number: 0,
            rollout: None,
            host: None,
            wave: None,
            state: None,
            reason: None,
            by,
            detail,
        };
        Self::emit(format!("trial-{number:016x}"), source, format!("{TYPE}trial"), at, None, data)
    }

    fn emit(
        id: String,
        source: &str,
        kind: String,
        at: Stamp,
        subject: Option<String>,
        data: Data<'_>,
    ) -> Self {
        let time = jiff::Timestamp::from_microsecond(at).unwrap_or_default();
        let event = CloudEvent {
            specversion: "1.0",
            id: &id,
            source,
            kind,
            time: time.to_string(),
            subject,
            datacontenttype: "application/json",
            data,
        };
        // Text and numbers: there is nothing that JSON could not say.
        let body = serde_json::to_vec(&event).unwrap_or_default();
        Self { id, body }
    }
}

/// What an event's detail says, taken apart.
#[derive(Default)]
struct Parts<'a> {
    wave: Option<&'a str>,
    state: Option<&'a str>,
    reason: Option<&'a str>,
}

impl<'a> Parts<'a> {
    /// The store writes `STATE: REASON` of rollouts and hosts, also of hosts that are put back,
    /// `HEALTH: REASON` of looks, and
    /// `WAVE: STATE` of waves.
    fn of(event: &'a Event) -> Self {
        let detail = event.detail.as_str();
        match event.kind {
            EventKind::State | EventKind::Ended | EventKind::Looked | EventKind::PutBack => {
                let (state, reason) = match detail.split_once(": ") {
                    Some((state, reason)) => (state, Some(reason)),
                    None => (detail, None),
                };
                // Some events of a rollout are no change of its state.
                let is_word = !state.contains(' ');
                Self { wave: None, state: is_word.then_some(state), reason }
            }
            EventKind::Wave => {
                let parts = detail.rsplit_once(": ");
                let (wave, state) = parts.unzip();
                Self { wave, state, reason: None }
            }
            EventKind::Approved => Self { wave: Some(detail), ..Self::default() },
            EventKind::Stage => Self { state: Some(detail), ..Self::default() },
            _ => Self::default(),
        }
    }
}

/// `ROLLOUT/HOST`, without what CloudEvents forbids in an attribute.
fn subject(rollout: Option<&str>, host: Option<&str>) -> Option<String> {
    let subject = match (rollout, host) {
        (Some(rollout), Some(host)) => format!("{rollout}/{host}"),
        (one, other) => one.or(other)?.to_owned(),
    };
    let is_forbidden = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{fdd0}'..='\u{fdef}')
            || u32::from(letter) & 0xfffe == 0xfffe
    };
    Some(subject.replace(is_forbidden, "\u{fffd}"))
}

fn word(kind: EventKind) -> String {
    match serde_json::to_value(kind) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(kind: EventKind, host: Option<&str>, detail: &str) -> Value {
        let event = Event {
            id: 17,
            at: 1_700_000_000_123_456,
            rollout: Some(3),
            host: host.map(str::to_owned),
            by: "ann".to_owned(),
            kind,
            detail: detail.to_owned(),
        };
        let message = Message::of(&event, Some("winter"), "/firmcast-fleet");
        assert_eq!(message.id, "17");
        serde_json::from_slice(&message.body).expect("JSON")
    }

    #[test]
    fn an_event_is_a_cloud_event() {
        let reason = "2 of 4 hosts failed in rack \"a: b\"; the limit is 50 %";
        let told = told(EventKind::State, None, &format!("paused: {reason}"));
        let expected = json!({
            "specversion": "1.0",
            "id": "17",
            "source": "/firmcast-fleet",
            "type": "firmcast.fleet.state",
            "time": "2023-11-14T22:13:20.123456Z",
            "subject": "winter",
            "datacontenttype": "application/json",
            "data": {
                "number": 17,
                "rollout": {"id": 3, "name": "winter"},
                "state": "paused",
                "reason": reason,
                "by": "ann",
                "detail": format!("paused: {reason}"),
            },
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn details_are_taken_apart_and_hostile_names_stay_out_of_attributes() {
        let ended = told(EventKind::Ended, Some("h\n1\u{fffe}"), "failed: flash-locked");
        assert_eq!(ended["subject"], "winter/h\u{fffd}1\u{fffd}");
        assert_eq!(ended["data"]["host"], "h\n1\u{fffe}");
        assert_eq!(
            (&ended["data"]["state"], &ended["data"]["reason"]),
            (&json!("failed"), &json!("flash-locked"))
        );
        let wave = told(EventKind::Wave, None, "a: b: running");
        assert_eq!(
            (&wave["data"]["wave"], &wave["data"]["state"]),
            (&json!("a: b"), &json!("running"))
        );
        let looked = told(EventKind::Looked, Some("h"), "sick: version-mismatch");
        assert_eq!(looked["data"]["state"], "sick");
        let back = told(EventKind::PutBack, Some("h"), "planned: its rollout: paused");
        assert_eq!(back["data"]["state"], "planned");
        assert_eq!(back["data"]["reason"], "its rollout: paused");
        let again = told(EventKind::State, None, "3 planned again");
        assert_eq!(again["data"]["state"], Value::Null);
    }

    /// The published schema names just what is sent.
    #[test]
    fn messages_are_as_the_schema_says() {
        const SCHEMA: &str = include_str!("../../../docs/fleet-event.schema.json");
        let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
        let trial = Message::trial(7, "ann", "/firmcast-fleet", 0);
        let all = [
            told(EventKind::Ended, Some("h"), "failed: flash-locked"),
            told(EventKind::Wave, None, "canary: running"),
            serde_json::from_slice(&trial.body).expect("JSON"),
        ];
        for schema in [&schema, &schema["properties"]["data"]] {
            let part = |told: &Value| match schema.get("title") {
                Some(_) => told.clone(),
                None => told["data"].clone(),
            };
            let parts: Vec<Value> = all.iter().map(part).collect();
            let known = schema["properties"].as_object().expect("properties");
            let required = schema["required"].as_array().expect("a list");
            for told in &parts {
                let told = told.as_object().expect("an object");
                assert!(told.keys().all(|field| known.contains_key(field)), "{told:?}");
                assert!(
                    required.iter().all(|field| told.contains_key(field.as_str().expect("text")))
                );
            }
            let unused =
                |field: &&String| !parts.iter().any(|told| told.get(field.as_str()).is_some());
            assert_eq!(known.keys().find(unused), None);
        }
    }
}
