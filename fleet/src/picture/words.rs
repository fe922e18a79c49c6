//! Times, spans of time and commands, as people read and type them.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::model::Stamp;

/// Microseconds of a second.
pub(super) const SECOND_US: i64 = 1_000_000;

/// Returns a state or kind as the store, JSON and commands have it.
pub fn word(state: impl Serialize) -> String {
    match serde_json::to_value(state) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// Returns a number of hosts, in words.
pub fn hosts(count: u64) -> String {
    if count == 1 { "1 host".to_owned() } else { format!("{count} hosts") }
}

/// Returns a span of time with the two largest units, rounded down: `3 d 4 h`, `2 min 5 s`.
pub fn span(us: i64) -> String {
    let seconds = (us / SECOND_US).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: i64, unit: &str, small: i64, part: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {part}"),
    };
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3600 => two(minutes, "min", seconds % 60, "s"),
        3600..86_400 => two(hours, "h", minutes % 60, "min"),
        _ => two(days, "d", hours % 24, "h"),
    }
}

/// Returns a moment as the clock of a zone shows it: `Mon 2026-01-05 22:00`.
pub fn moment(at: Stamp, zone: &TimeZone) -> String {
    match Timestamp::from_microsecond(at) {
        Ok(at) => zone.to_datetime(at).strftime("%a %Y-%m-%d %H:%M").to_string(),
        Err(_) => "never".to_owned(),
    }
}

/// Returns a moment in UTC, and how far off it is: `Mon 2026-01-05 21:00 UTC, in 3 h`.
pub fn when(at: Stamp, now: Stamp) -> String {
    format!("{} UTC, {}", moment(at, &TimeZone::UTC), distance(at, now))
}

/// Returns how far off a moment is: `in 3 h`, `3 h ago`, `now`.
pub fn distance(at: Stamp, now: Stamp) -> String {
    match at.saturating_sub(now) {
        us if us >= SECOND_US => format!("in {}", span(us)),
        us if us <= -SECOND_US => format!("{} ago", span(us.saturating_neg())),
        _ => "now".to_owned(),
    }
}

/// Returns a command of `firmcast-fleet` as a person may type it: `before` as it is, then names,
/// which may be any text.
pub fn command(before: &str, names: &[&str]) -> String {
    let ends_options = names.iter().any(|name| name.starts_with('-'));
    let options = if ends_options { " --" } else { "" };
    let names: String = names.iter().map(|name| format!(" {}", argument(name))).collect();
    format!("firmcast-fleet {before}{options}{names}")
}

/// Returns a program with its arguments as a person may type it.
pub fn program(argv: &[String]) -> String {
    argv.iter().map(|word| argument(word)).collect::<Vec<_>>().join(" ")
}

/// Returns any text as a terminal may show it: what would change the terminal, or would not be seen
/// there, is escaped.
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match is_hidden(letter) {
            true => shown.extend(letter.escape_debug()),
            false => shown.push(letter),
        }
    }
    shown
}

/// Everything that `escape_debug` changes, but quotes and the backslash.
fn is_hidden(letter: char) -> bool {
    let is_seen = matches!(letter, '\'' | '"' | '\\') || letter.escape_debug().len() == 1;
    !is_seen || letter.is_control()
}

/// Returns the command that starts a worker of a site.
pub fn work_command(site: &str) -> String {
    format!("firmcast-fleet work --key FILE --site={}", argument(site))
}

/// Returns any text as one argument for a shell; bash's `$''` where nothing else is printable.
fn argument(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:@%+=,".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    if !text.chars().any(is_hidden) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let mut quoted = "$'".to_owned();
    let mut bytes = [0; 4];
    for letter in text.chars() {
        match letter {
            '\'' | '\\' => quoted.extend(['\\', letter]),
            _ if is_hidden(letter) => {
                let encoded = letter.encode_utf8(&mut bytes).bytes();
                quoted.extend(encoded.map(|byte| format!("\\x{byte:02x}")));
            }
            _ => quoted.push(letter),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_units_and_commands_survive_any_name() {
        assert_eq!(span(59 * SECOND_US), "59 s");
        assert_eq!(span((2 * 3600 + 61) * SECOND_US), "2 h 1 min");
        assert_eq!(span(3 * 86_400 * SECOND_US), "3 d");
        assert_eq!(when(3_600 * SECOND_US, 0), "Thu 1970-01-01 01:00 UTC, in 1 h");
        assert_eq!(distance(0, 61 * SECOND_US), "1 min 1 s ago");

        let types = |name| command("rollout start", &[name]);
        assert_eq!(types("winter"), "firmcast-fleet rollout start winter");
        assert_eq!(types("-x"), "firmcast-fleet rollout start -- -x");
        assert_eq!(types("it's\u{e4}"), "firmcast-fleet rollout start 'it'\\''s\u{e4}'");
        assert_eq!(types("a\u{1b}'"), "firmcast-fleet rollout start $'a\\x1b\\''");
        assert_eq!(types(""), "firmcast-fleet rollout start ''");
        assert_eq!(shown("a\u{1b}[2J\u{202e}\"\u{4e16}"), "a\\u{1b}[2J\\u{202e}\"\u{4e16}");
    }
}
