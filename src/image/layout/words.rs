//! Searching all of a chip for what begins at a multiple of 8.

/// Words that are looked at before it is decided whether to look closer.
const GROUP_WORDS: usize = 4;

/// Returns the number of the first word that `may_be` says yes to.
///
/// Every byte of a chip comes by here, several times in an update, and the compiler unrolls nothing
/// where it optimises for size: so a branch is taken once for four words.
pub(in crate::image) fn find_word(
    words: &[[u8; 8]],
    may_be: impl Fn(&[u8; 8]) -> bool,
) -> Option<usize> {
    let (groups, _) = words.as_chunks::<GROUP_WORDS>();
    let has_any =
        |[a, b, c, d]: &[[u8; 8]; GROUP_WORDS]| may_be(a) | may_be(b) | may_be(c) | may_be(d);
    let clear = groups.iter().position(has_any).unwrap_or(groups.len()) * GROUP_WORDS;
    words[clear..].iter().position(may_be).map(|nth| clear + nth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_what_a_look_at_each_word_finds(
            marks in proptest::collection::vec(0u8..40, 0..40),
        ) {
            let words: Vec<[u8; 8]> = marks.iter().map(|mark| [*mark; 8]).collect();
            let may_be = |word: &[u8; 8]| word[0] == 0;
            prop_assert_eq!(find_word(&words, may_be), words.iter().position(may_be));
        }
    }
}
