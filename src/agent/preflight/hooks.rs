//! Whether the administrator's programs before and after an update can be run.

use std::path::Path;

use crate::agent::check::{Checklist, Subject};
use crate::agent::hooks::{When, programs};
use crate::reason::Reason;

pub(super) fn hooks(list: &mut Checklist, root: &Path) {
    let all: Result<Vec<_>, _> = When::ALL.into_iter().map(|when| programs(root, when)).collect();
    let found = all.map(|all| match all.as_slice() {
        [before, after] if before.len() + after.len() > 0 => {
            format!("{} before an update, {} after it", before.len(), after.len())
        }
        _ => "none".to_owned(),
    });
    list.result(Subject::Hooks, Reason::HookFailed, found, "give it to root alone");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_program_that_others_may_change_is_in_the_way() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("etc/firmcast/post-update.d");
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.join("undrain"), "").unwrap();
        let verdict = |mode| {
            fs::set_permissions(folder.join("undrain"), Permissions::from_mode(mode)).unwrap();
            let mut list = Checklist::default();
            hooks(&mut list, root.path());
            (list.checks()[0].detail.clone(), list.verdict().map_err(|refusal| refusal.reason))
        };
        assert_eq!(verdict(0o644), ("none".into(), Ok(())));
        assert_eq!(verdict(0o755), ("0 before an update, 1 after it".into(), Ok(())));
        assert_eq!(verdict(0o777).1, Err(Reason::HookFailed));
    }
}
