//! The recovery images that `firmcast-mkrecovery --all` keeps: `V.img` for each installed kernel of
//! release V, `V.kernel` where that kernel had to be unpacked, and `V.failed` with the reason where
//! the last build for it failed.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Most images that are looked at; more kernels than this are not installed.
pub const IMAGES_MAX: usize = 64;

/// Longest reason of a failure that is shown, in bytes.
const REASON_SIZE_MAX: u64 = 400;

/// Where distributions put the kernel of a release, below the root; at last, what the confined
/// agent sees in place of /usr/lib/modules (firmcastd.service).
const KERNEL_PLACES: [&str; 4] = [
    "boot/vmlinuz-{}",
    "usr/lib/modules/{}/vmlinuz",
    "lib/modules/{}/vmlinuz",
    "run/firmcast-modules/{}/vmlinuz",
];

/// A recovery image and the kernel that it was built for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptImage {
    /// The kernel's release.
    pub release: String,
    /// The kernel, where its distribution has put it, or unpacked.
    pub kernel: PathBuf,
    /// The image.
    pub initramfs: PathBuf,
}

/// Returns the images in `folder` whose kernel is installed below `root`, the newest kernel first.
pub fn kept_images(root: &Path, folder: &Path) -> Vec<KeptImage> {
    let kept = |release: String| {
        let installed = kernel_of(root, &release)?;
        let unpacked = folder.join(format!("{release}.kernel"));
        let kernel = if unpacked.is_file() { unpacked } else { installed };
        Some(KeptImage { kernel, initramfs: folder.join(format!("{release}.img")), release })
    };
    releases(folder, ".img").into_iter().filter_map(kept).take(IMAGES_MAX).collect()
}

/// Returns the releases in `folder` for which the last build failed, with the reason.
pub fn failed_builds(folder: &Path) -> Vec<(String, String)> {
    let with_reason = |release: String| {
        let mut reason = String::new();
        let file = File::open(folder.join(format!("{release}.failed"))).ok()?;
        // A reason that is cut off in the middle of a letter is as good as none.
        let _ = file.take(REASON_SIZE_MAX).read_to_string(&mut reason);
        Some((release, reason.lines().next().unwrap_or_default().to_owned()))
    };
    releases(folder, ".failed").into_iter().filter_map(with_reason).take(IMAGES_MAX).collect()
}

/// Releases of the files in `folder` that end in `suffix`, the newest first.
fn releases(folder: &Path, suffix: &str) -> Vec<String> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let release = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        Some(name.strip_suffix(suffix).filter(|release| !release.is_empty())?.to_owned())
    };
    let mut releases: Vec<String> = names.filter_map(release).collect();
    releases.sort_by(|a, b| compare_releases(b, a));
    releases
}

fn kernel_of(root: &Path, release: &str) -> Option<PathBuf> {
    let path = |place: &str| root.join(place.replace("{}", release));
    KERNEL_PLACES.iter().map(|place| path(place)).find(|path| path.is_file())
}

/// Orders kernel releases as package managers do: numbers by their value, `~` before everything,
/// even before the end.
fn compare_releases(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (word_a, rest_a) = split(a, |letter| !letter.is_ascii_digit());
        let (word_b, rest_b) = split(b, |letter| !letter.is_ascii_digit());
        let (number_a, next_a) = split(rest_a, |letter| letter.is_ascii_digit());
        let (number_b, next_b) = split(rest_b, |letter| letter.is_ascii_digit());
        let order = compare_words(word_a, word_b).then_with(|| compare_numbers(number_a, number_b));
        if order != Ordering::Equal || (next_a.is_empty() && next_b.is_empty()) {
            return order;
        }
        (a, b) = (next_a, next_b);
    }
}

fn split(text: &str, is_first: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|letter| !is_first(letter)).unwrap_or(text.len()))
}

/// Letters come before other signs, the end before both, and `~` before the end (deb-version(7)).
fn compare_words(a: &str, b: &str) -> Ordering {
    let weight = |letter: char| match letter {
        '~' => 0,
        letter if letter.is_ascii_alphabetic() => 2 + letter as u32,
        letter => 0x1_0000 + letter as u32,
    };
    let weights = |word: &str| word.chars().map(weight).chain([1]).collect::<Vec<_>>();
    weights(a).cmp(&weights(b))
}

fn compare_numbers(a: &str, b: &str) -> Ordering {
    let value = |digits: &str| digits.trim_start_matches('0').to_owned();
    let (a, b) = (value(a), value(b));
    a.len().cmp(&b.len()).then_with(|| a.cmp(&b))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn releases_are_ordered_as_package_managers_order_them() {
        let ascending = [
            "5.15.0-1-amd64",
            "6.1.0~rc3-amd64",
            "6.1.0",
            "6.1.0+1",
            "6.1.0-9-amd64",
            "6.1.0-40-amd64",
            "6.9.9",
            "6.10.0~rc1",
            "6.10.0",
            "6.12.9-200.fc41.x86_64",
            "6.12.10-200.fc41.x86_64",
            "99999999999999999999999.1",
        ];
        for (at, older) in ascending.iter().enumerate() {
            assert_eq!(compare_releases(older, older), Ordering::Equal);
            for newer in &ascending[at + 1..] {
                assert_eq!(compare_releases(older, newer), Ordering::Less, "{older} {newer}");
                assert_eq!(compare_releases(newer, older), Ordering::Greater, "{older} {newer}");
            }
        }
    }

    #[test]
    fn images_without_a_kernel_do_not_count_and_failures_have_a_reason() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("recovery");
        for path in ["boot", "lib/modules/6.2", "recovery"] {
            fs::create_dir_all(root.path().join(path)).unwrap();
        }
        for file in ["boot/vmlinuz-6.1", "lib/modules/6.2/vmlinuz", "recovery/6.1.img"] {
            fs::write(root.path().join(file), "").unwrap();
        }
        for file in ["6.2.img", "6.3.img", ".img", "6.1.made-of"] {
            fs::write(folder.join(file), "").unwrap();
        }
        fs::write(folder.join("6.3.failed"), "no space\nand more\n").unwrap();
        let kept = kept_images(root.path(), &folder);
        let releases: Vec<&str> = kept.iter().map(|image| image.release.as_str()).collect();
        assert_eq!(releases, ["6.2", "6.1"]);
        assert_eq!(kept[1].kernel, root.path().join("boot/vmlinuz-6.1"));
        assert_eq!(failed_builds(&folder), [("6.3".to_owned(), "no space".to_owned())]);
        assert!(kept_images(root.path(), Path::new("/nonexistent")).is_empty());
    }
}
