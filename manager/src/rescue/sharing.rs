//! What the courses of a service share: the turns to upload a backup, and the rate.

use firmcast::time::Time;

use super::service::{COURSES_MAX, Service};
use crate::campaign::{UPLOADS_MAX, Uploads};

/// Turns to upload that are kept for hosts of the inventory.
const UPLOADS_KEPT_FOR_KNOWN: usize = 4;

// Each course can have a turn, whatever the others hold.
const _: () = assert!(COURSES_MAX + UPLOADS_KEPT_FOR_KNOWN <= UPLOADS_MAX);

impl Service {
    /// All courses share the turns to upload, each of which has its part of the rate and holds a
    /// backup in memory.
    pub(super) fn share_uploads(&mut self, now: Time) {
        let uploads: Vec<Uploads> =
            self.courses.iter().map(|running| running.course.uploads()).collect();
        for (running, turns) in self.courses.iter_mut().zip(share(&uploads)) {
            running.course.set_uploads_max(now, turns);
        }
    }

    /// Streams that are under way share the cap equally.
    pub(super) fn share_rate(&mut self, now: Time) {
        let active = self.courses.iter().filter(|running| running.course.stream().is_active());
        let sharing = active.count().max(1);
        if sharing != self.sharing {
            self.sharing = sharing;
            for running in &mut self.courses {
                running.course.set_rate_cap(now, self.settings.rate_bits_per_s / sharing as u64);
            }
        }
    }
}

/// How many turns each course has from here on: those that it holds, and new ones. Known hosts get
/// theirs first, and the course with the fewest. One turn stays free for each course without one,
/// and for courses that may begin; strangers leave some more.
fn share(courses: &[Uploads]) -> Vec<usize> {
    let mut turns: Vec<usize> = courses.iter().map(|course| course.held).collect();
    let mut waiting: Vec<usize> = courses.iter().map(|course| course.known).collect();
    give(&mut turns, &mut waiting, 0);
    waiting = courses.iter().map(|course| course.strangers).collect();
    give(&mut turns, &mut waiting, UPLOADS_KEPT_FOR_KNOWN);
    turns
}

fn give(turns: &mut [usize], waiting: &mut [usize], kept: usize) {
    loop {
        let free = UPLOADS_MAX.saturating_sub(turns.iter().sum());
        let without = COURSES_MAX.saturating_sub(turns.iter().filter(|held| **held > 0).count());
        let has_room = |held: usize| match held {
            0 => free > 0,
            _ => free > without + kept,
        };
        let wanting =
            (0..turns.len()).filter(|index| waiting[*index] > 0 && has_room(turns[*index]));
        let Some(next) = wanting.min_by_key(|index| turns[*index]) else { return };
        turns[next] += 1;
        waiting[next] -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(held: usize, known: usize, strangers: usize) -> Uploads {
        Uploads { held, known, strangers }
    }

    #[test]
    fn each_course_has_a_turn_whatever_the_others_hold() {
        let mut courses = vec![course(0, 0, 0); COURSES_MAX];
        for nth in 0..COURSES_MAX {
            courses[nth] = course(0, 1000, 1000);
            let turns = share(&courses);
            assert!(turns[nth] >= 1, "{turns:?}");
            assert!(turns.iter().sum::<usize>() <= UPLOADS_MAX, "{turns:?}");
            for (course, held) in courses.iter_mut().zip(turns) {
                course.held = held;
            }
        }
    }

    #[test]
    fn courses_have_equal_shares_and_none_that_it_does_not_want() {
        assert_eq!(share(&[course(0, 20, 0), course(0, 20, 0)]), [5, 5]);
        assert_eq!(share(&[course(0, 2, 0), course(0, 20, 0)]), [2, 8]);
        assert_eq!(share(&[course(3, 20, 0), course(0, 0, 0)]), [9, 0]);
        // What was given is kept.
        assert_eq!(share(&[course(9, 20, 0), course(0, 1, 0)]), [9, 1]);
        assert_eq!(share(&[]), [0; 0]);
    }

    #[test]
    fn strangers_leave_turns_to_known_hosts() {
        assert_eq!(share(&[course(0, 0, 1000)]), [9 - UPLOADS_KEPT_FOR_KNOWN]);
        let full = course(9 - UPLOADS_KEPT_FOR_KNOWN, 0, 1000);
        assert_eq!(share(&[Uploads { known: 2, ..full }]), [full.held + 2]);
        let each = share(&[course(0, 0, 1000); COURSES_MAX]);
        assert_eq!(each.iter().sum::<usize>(), UPLOADS_MAX - UPLOADS_KEPT_FOR_KNOWN);
        assert!(each.iter().all(|turns| *turns >= 1), "{each:?}");
    }
}
