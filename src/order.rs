//! Order: one sort for all that is sorted by numbers.
//!
//! The standard library's sort is compiled for each type and each key anew, 4 KB every time. Here
//! only the way to the rank is.

/// Numbers that a rank has at most.
const RANK_MAX: usize = 3;

/// Sorts `items` by their ranks, of which the first number counts most. Items of the same rank
/// stay in their order.
pub(crate) fn sort_by_rank<T, const N: usize>(items: &mut Vec<T>, rank: impl Fn(&T) -> [u64; N]) {
    const { assert!(N <= RANK_MAX, "a longer rank would lose numbers") };
    let ranks = items.iter().map(|item| {
        let mut whole = [0; RANK_MAX];
        whole[..N].copy_from_slice(&rank(item));
        whole
    });
    let places = in_order(ranks.collect());
    let mut unsorted: Vec<Option<T>> = std::mem::take(items).into_iter().map(Some).collect();
    items.extend(places.into_iter().filter_map(|place| unsorted[place].take()));
}

/// Returns the places of the lowest rank, of the next, and so on.
fn in_order(ranks: Vec<[u64; RANK_MAX]>) -> Vec<usize> {
    let mut placed: Vec<_> = ranks.into_iter().enumerate().map(|(at, rank)| (rank, at)).collect();
    placed.sort_unstable();
    placed.into_iter().map(|(_, place)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn items() -> impl Strategy<Value = Vec<(u8, u64, u8)>> {
        proptest::collection::vec((0_u8..4, 0_u64..3, any::<u8>()), 0..60)
    }

    proptest! {
        /// As the standard library's stable sort, whatever the ranks.
        #[test]
        fn ranks_sort_as_keys_do(items in items()) {
            let mut expected = items.clone();
            expected.sort_by_key(|(first, second, _)| (*first, *second));
            let mut sorted = items.clone();
            sort_by_rank(&mut sorted, |(first, second, _)| [u64::from(*first), *second]);
            prop_assert_eq!(sorted, expected);
        }
    }
}
