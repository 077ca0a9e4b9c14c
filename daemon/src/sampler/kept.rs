//! Small files of the kernel, read again and again through one descriptor, and the numbers in them. Nothing here allocates
//! at a read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// A file and its descriptor, once it could be opened.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    file: Option<File>,
}

impl Kept {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    /// Opens it now, so that it can be read when its name is gone.
    pub(super) fn opened(path: PathBuf) -> Self {
        let file = File::open(&path).ok();
        Self { path, file }
    }

    /// What is in it now, as far as it fits.
    pub(super) fn read<'a>(&mut self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        if self.file.is_none() {
            self.file = Some(File::open(&self.path)?);
        }
        let file = self.file.as_ref().expect("it was just opened");
        match rustix::io::pread(file, &mut *buffer, 0) {
            Ok(read) => Ok(&buffer[..read]),
            Err(error) => {
                self.file = None;
                Err(error.into())
            }
        }
    }
}

/// All of a list of numbers or names, however many reads it takes.
pub(super) fn read_whole(file: &File, text: &mut Vec<u8>) -> io::Result<()> {
    const PART: usize = 4096;
    /// The kernel ends a read before a line that does not fit; they are shorter than this.
    const LINE: usize = 64;
    text.clear();
    let mut part = [0; PART];
    loop {
        let read = file.read_at(&mut part, text.len() as u64)?;
        text.extend_from_slice(&part[..read]);
        if read < PART - LINE {
            return Ok(());
        }
    }
}

/// The number that a text begins with, after blanks.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii_start();
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    let (mut value, mut any) = (0_u64, false);
    for digit in digits {
        value = value
            .checked_mul(10)?
            .checked_add(u64::from(digit - b'0'))?;
        any = true;
    }
    any.then_some(value)
}

/// Lines of the form "name value", with or without a colon.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let end = line
            .iter()
            .position(|byte| matches!(byte, b' ' | b'\t' | b':'))?;
        let rest = line[end..].strip_prefix(b":").unwrap_or(&line[end..]);
        Some((&line[..end], rest))
    })
}

/// The number of the line that is called so.
pub(super) fn field(text: &[u8], name: &str) -> Option<u64> {
    lines(text)
        .find(|(found, _)| *found == name.as_bytes())
        .and_then(|(_, value)| number(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_and_nothing_is_made_up() {
        assert_eq!(number(b"  12 kB"), Some(12));
        assert_eq!(number(b"max\n"), None);
        assert_eq!(number(b""), None);
        assert_eq!(number(b"18446744073709551616"), None, "it does not fit");
        let text = b"anon 5\ninactive_file 7\nfile\nlow:  3 kB\n";
        assert_eq!(field(text, "inactive_file"), Some(7));
        assert_eq!(field(text, "low"), Some(3));
        assert_eq!(field(text, "file"), None);
        assert_eq!(field(text, "inactive"), None);
    }

    #[test]
    fn a_long_list_takes_many_reads() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("children");
        let list: String = (0..3000).map(|pid| format!("{pid} ")).collect();
        std::fs::write(&path, &list).expect("a file");
        let (file, mut text) = (File::open(&path).expect("it is there"), b"old".to_vec());
        read_whole(&file, &mut text).expect("read");
        assert_eq!(text, list.as_bytes());
    }

    #[test]
    fn a_file_that_changes_is_read_anew_and_one_that_comes_is_found() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("current");
        let mut kept = Kept::new(path.clone());
        let mut buffer = [0; 16];
        let error = kept.read(&mut buffer).expect_err("it is not there yet");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        std::fs::write(&path, "1\n").expect("a file");
        assert_eq!(kept.read(&mut buffer).expect("it is there"), b"1\n");
        std::fs::write(&path, "22\n").expect("a file");
        assert_eq!(kept.read(&mut buffer).expect("it is there"), b"22\n");
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(kept.read(&mut buffer).expect("kept"), b"22\n");
    }
}
