//! Proportional and unique set sizes from smaps_rollup (kernels before 4.14: from smaps). The kernel walks the page tables
//! for it, some 10 ms a GB of small pages, so it is read seldom and one process at a time.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;
use std::time::Instant;

use super::kept::{field, number};
use super::pid::{Lost, Process};
use crate::domain::{Detail, Reading};

pub(super) const ROLLUP: &str = "/proc/PID/smaps_rollup";
const SMAPS: &str = "/proc/PID/smaps";
const STATUS: &str = "/proc/PID/status";
/// More than any smaps_rollup or status has.
const MOST_BYTES: u64 = 64 << 10;

/// Reads one process once. Errors: it has ended.
pub(super) fn read(process: &mut Process, root: &Path, now: Instant) -> Result<Detail, Lost> {
    let read = match process.file(root, "smaps_rollup")? {
        Ok(file) => sums(&mut BufReader::new(file.take(MOST_BYTES))).map(|sums| (sums, ROLLUP)),
        Err(error) if error.kind() == ErrorKind::NotFound => match process.file(root, "smaps")? {
            Ok(file) => {
                sums(&mut BufReader::with_capacity(64 << 10, file)).map(|sums| (sums, SMAPS))
            }
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    let (sums, source) = match read.map_err(Lost::from) {
        Ok(read) => read,
        Err(Lost::Ended) => return Err(Lost::Ended),
        Err(Lost::Unread(why)) => return Ok(Detail::unknown(&why, now, ROLLUP)),
    };
    let reading = |kib: Option<u64>, name: &str| match kib {
        Some(kib) => Reading::known((kib * 1024) as f64, now, source),
        None => Reading::unknown(&format!("this kernel's smaps has no {name}"), now, source),
    };
    let shmem_bytes = match sums.pss_shmem {
        Some(kib) => Reading::known((kib * 1024) as f64, now, source),
        None => resident_shared(process, root, now)?,
    };
    Ok(Detail {
        pss_bytes: reading(sums.pss, "Pss"),
        uss_bytes: reading(sums.private, "Private_Clean and Private_Dirty"),
        swap_bytes: reading(sums.swap_pss, "SwapPss"),
        shmem_bytes,
    })
}

/// RssShmem, in kernels since 4.5.
fn resident_shared(process: &mut Process, root: &Path, now: Instant) -> Result<Reading, Lost> {
    let mut text = Vec::new();
    let file: Result<File, _> = process.file(root, "status")?;
    let read = file.and_then(|file| file.take(MOST_BYTES).read_to_end(&mut text));
    let value = match read.map_err(Lost::from) {
        Err(Lost::Ended) => return Err(Lost::Ended),
        Err(Lost::Unread(why)) => Err(why),
        Ok(_) => field(&text, "RssShmem")
            .map(|kib| (kib * 1024) as f64)
            .ok_or_else(|| "this kernel's status has no RssShmem".to_owned()),
    };
    Ok(Reading {
        value,
        at: now,
        source: STATUS,
    })
}

/// In KiB; None: there is no such line.
#[derive(Debug, Default, PartialEq)]
struct Sums {
    pss: Option<u64>,
    private: Option<u64>,
    swap_pss: Option<u64>,
    pss_shmem: Option<u64>,
}

/// Of one mapping or many, line by line.
fn sums(text: &mut impl BufRead) -> std::io::Result<Sums> {
    let mut sums = Sums::default();
    let (mut line, mut any) = (Vec::with_capacity(256), false);
    while text.read_until(b'\n', &mut line)? > 0 {
        any = true;
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(0);
        let sum = match &line[..colon] {
            b"Pss" => Some(&mut sums.pss),
            b"Private_Clean" | b"Private_Dirty" => Some(&mut sums.private),
            b"SwapPss" => Some(&mut sums.swap_pss),
            b"Pss_Shmem" => Some(&mut sums.pss_shmem),
            _ => None,
        };
        if let (Some(sum), Some(kib)) = (sum, number(&line[colon + 1..])) {
            *sum = Some(sum.unwrap_or(0) + kib);
        }
        line.clear();
    }
    // A process that is just ending has no memory any more, and the kernel then says nothing at all.
    if any {
        Ok(sums)
    } else {
        Err(ErrorKind::NotFound.into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded::Recorded;
    use super::*;

    /// A process of a recorded tree.
    fn recorded(files: &[(&str, &str)]) -> (Recorded, Process) {
        let tree = Recorded::new();
        tree.process(10, 1, 500, 9);
        for (name, text) in files {
            tree.put(&format!("10/{name}"), text);
        }
        (tree, Process::known(10, 500))
    }

    fn values(detail: &Detail) -> [Result<f64, String>; 4] {
        [
            &detail.pss_bytes,
            &detail.uss_bytes,
            &detail.swap_bytes,
            &detail.shmem_bytes,
        ]
        .map(|reading| reading.value.clone())
    }

    const ROLLED: &str = "\
00400000-7ffe3 ---p 00000000 00:00 0                          [rollup]
Rss:                1616 kB
Pss:                 230 kB
Pss_Dirty:           112 kB
Pss_Shmem:            50 kB
Shared_Clean:       1464 kB
Private_Clean:        40 kB
Private_Dirty:       112 kB
Private_Hugetlb:       0 kB
Swap:                 20 kB
SwapPss:              10 kB
";

    #[test]
    fn a_rollup_is_read() {
        let (tree, mut process) = recorded(&[("smaps_rollup", ROLLED)]);
        let detail = read(&mut process, &tree.proc(), Instant::now()).expect("it lives");
        let kib = |count: u64| Ok((count * 1024) as f64);
        assert_eq!(values(&detail), [kib(230), kib(152), kib(10), kib(50)]);
        assert_eq!(detail.pss_bytes.source, ROLLUP);
    }

    #[test]
    fn an_old_kernel_has_smaps_and_status_and_says_what_it_does_not_know() {
        let smaps = "\
00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus: daemon
Rss:                 300 kB
Pss:                 100 kB
Private_Clean:        10 kB
Private_Dirty:         1 kB
VmFlags: rd ex mr mw me dw
00651000-00652000 rw-p 00051000 08:02 173521      [heap]
Pss:                   5 kB
Private_Clean:         0 kB
Private_Dirty:         5 kB
";
        let files = [
            ("smaps", smaps),
            ("status", "VmRSS:\t 9 kB\nRssShmem:\t 7 kB\n"),
        ];
        let (tree, mut process) = recorded(&files);
        let detail = read(&mut process, &tree.proc(), Instant::now()).expect("it lives");
        let no_swap = Err("this kernel's smaps has no SwapPss".to_owned());
        let kib = |count: u64| Ok((count * 1024) as f64);
        assert_eq!(values(&detail), [kib(105), kib(16), no_swap, kib(7)]);
        assert_eq!(
            (detail.pss_bytes.source, detail.shmem_bytes.source),
            (SMAPS, STATUS)
        );
    }

    #[test]
    fn one_that_ends_meanwhile_has_ended() {
        let (tree, mut process) = recorded(&[("smaps_rollup", "")]);
        let read = read(&mut process, &tree.proc(), Instant::now());
        assert_eq!(read, Err(Lost::Ended));
    }

    #[test]
    fn what_may_not_be_read_is_unknown_with_the_reason() {
        // root may read everything, so the error itself is looked at.
        let denied = std::io::Error::from(ErrorKind::PermissionDenied);
        let lost = Lost::from(denied);
        assert!(lost.why().starts_with("permission: "), "{lost:?}");
    }
}
