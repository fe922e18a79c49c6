//! A sysfs tree for tests.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// MTD devices as `/sys` shows them, in a temporary folder.
pub(crate) struct SysfsTree(tempfile::TempDir);

impl SysfsTree {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("sys/class/mtd")).unwrap();
        Self(root)
    }

    /// Returns what stands for `/`.
    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    /// Returns what stands for `/sys/class/mtd`.
    pub(crate) fn mtd(&self) -> PathBuf {
        self.root().join("sys/class/mtd")
    }

    /// Adds a NOR device with 4 KiB eraseblocks whose folder is `place` below `/sys`; partitions
    /// have an offset.
    pub(crate) fn add(
        &self,
        index: u32,
        place: &str,
        flags: u32,
        size_bytes: u64,
        offset_bytes: Option<u64>,
    ) {
        let folder = self.root().join("sys").join(place);
        fs::create_dir_all(&folder).unwrap();
        symlink(&folder, self.mtd().join(format!("mtd{index}"))).unwrap();
        let values = [
            ("name", format!("part{index}")),
            ("type", "nor".into()),
            ("flags", format!("{flags:#x}")),
            ("size", size_bytes.to_string()),
            ("erasesize", "4096".into()),
            ("writesize", "1".into()),
            ("oobsize", "0".into()),
        ];
        for (file, value) in values {
            self.write(index, file, &value);
        }
        if let Some(offset_bytes) = offset_bytes {
            self.write(index, "offset", &offset_bytes.to_string());
        }
    }

    /// Sets one file of a device.
    pub(crate) fn write(&self, index: u32, file: &str, value: &str) {
        fs::write(self.mtd().join(format!("mtd{index}/{file}")), format!("{value}\n")).unwrap();
    }

    /// Sets any file below `/`.
    pub(crate) fn put(&self, path: &str, value: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, value).unwrap();
    }
}
