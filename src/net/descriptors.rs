//! How many files the process has open, and may have. I/O.

/// How many files the process may have open.
pub(crate) fn open_file_limit() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// How many files the process has open; `None` where the system does not say.
pub(crate) fn count_open_files() -> Option<u64> {
    // Linux 6.2 and later tell it as the folder's size.
    let told = std::fs::metadata("/proc/self/fd").ok()?.len();
    if told > 0 {
        return Some(told);
    }
    std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64)
}
