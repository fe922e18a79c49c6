//! Durations as people write them: `30 min`, `2 h`, `1 h 30 min`, `45 s`, `2 d`.

/// Maximum duration in a rollout file, in seconds: 90 days.
pub const DURATION_S_MAX: u32 = 90 * 86_400;

/// Units, the largest first, with their seconds.
const UNITS: [(&str, u32); 4] = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];

/// Returns the seconds of a written duration.
///
/// # Errors
/// What is wrong, with an example of what is right.
pub fn parse_duration(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is not a duration: write for example \"30 min\" or \"2 h\"");
    let mut rest = text.trim();
    let mut seconds: u32 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u32 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = rest[digits..].trim_start();
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = UNITS.iter().find(|(name, _)| *name == &rest[..letters]).ok_or_else(wrong)?;
        rest = rest[letters..].trim_start();
        seconds = number
            .checked_mul(unit.1)
            .and_then(|part| seconds.checked_add(part))
            .filter(|sum| *sum <= DURATION_S_MAX)
            .ok_or_else(|| format!("{text:?} is too long: at most 90 d"))?;
    }
    Ok(seconds)
}

/// Returns `seconds` as people write them, exactly: [`parse_duration`] reads the same from it.
pub fn duration_words(seconds: u64) -> String {
    let mut rest = seconds;
    let mut words = Vec::new();
    for (name, size) in UNITS {
        let count = rest / u64::from(size);
        rest %= u64::from(size);
        if count > 0 {
            words.push(format!("{count} {name}"));
        }
    }
    if words.is_empty() { "0 s".to_owned() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn people_write_it_in_several_ways() {
        assert_eq!(parse_duration("30 min"), Ok(1800));
        assert_eq!(parse_duration(" 1h30min "), Ok(5400));
        for wrong in ["", "30", "min", "5 m", "-1 s", "1.5 h", "91 d", "99999999999 s", "3 µs"] {
            assert!(parse_duration(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(seconds in 0..=DURATION_S_MAX) {
            prop_assert_eq!(parse_duration(&duration_words(u64::from(seconds))), Ok(seconds));
        }

        #[test]
        fn any_text_is_answered(text in "\\PC*") {
            let _ = parse_duration(&text);
        }
    }
}
