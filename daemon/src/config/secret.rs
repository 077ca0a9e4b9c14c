//! Files that must be their owner's alone: tokens and the key of a certificate. What is in them is never shown.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use subtle::ConstantTimeEq;

use crate::domain::{Role, Roles};

/// Shorter ones can be guessed.
const LEAST_BYTES: usize = 16;
/// No file of tokens or keys is larger; a wrong path (a device, a data set) is not read to its end.
const MOST_FILE_BYTES: u64 = 1 << 20;

/// A secret word. It is compared, never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token(String);

impl Token {
    /// Whether this is the word, in a time that does not depend on where they differ. (It depends on the lengths.)
    fn is(&self, word: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(word).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Token(…)")
    }
}

/// Whose word gives what.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tokens {
    /// Each file's role and words.
    files: Vec<(Role, Vec<Token>)>,
}

impl Tokens {
    /// Adds a file's words. Errors: the role whose file has one of them already.
    pub(super) fn add(&mut self, role: Role, words: Vec<Token>) -> Result<(), Role> {
        let taken = self
            .files
            .iter()
            .find(|(_, others)| words.iter().any(|word| others.contains(word)))
            .map(|(other, _)| *other);
        self.files.push((role, words));
        taken.map_or(Ok(()), Err)
    }

    /// Whether a role has a file of tokens.
    pub fn has(&self, role: Role) -> bool {
        self.files.iter().any(|(own, _)| *own == role)
    }

    /// Whether there are none at all.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// What this word gives; None: nobody's. Every word is compared, whichever it is.
    pub fn roles(&self, word: &[u8]) -> Option<Roles> {
        let mut found = None;
        for (role, words) in &self.files {
            for own in words {
                if own.is(word) {
                    found = Some(Roles::of(*role));
                }
            }
        }
        found
    }

    /// For tests.
    #[cfg(test)]
    pub(crate) fn of(words: &[(Role, &str)]) -> Self {
        let mut tokens = Self::default();
        for (role, word) in words {
            tokens
                .add(*role, vec![Token((*word).to_owned())])
                .expect("different words");
        }
        tokens
    }
}

/// The bytes of a file that only its owner can read. Errors: why not, and what to do; never what is in it.
pub(super) fn read_secret(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let mut file = File::open(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let meta = file
        .metadata()
        .map_err(|error| format!("{shown} cannot be asked for its mode: {error}"))?;
    if !meta.is_file() {
        return Err(format!("{shown} is no file"));
    }
    let mode = meta.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "{shown} has mode {mode:04o}, so other users could read it: chmod 600 {shown}"
        ));
    }
    if meta.len() > MOST_FILE_BYTES {
        return Err(format!("{shown} is larger than 1 MiB"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .map_err(|error| format!("{shown} cannot be read: {error}"))?;
    Ok(bytes)
}

/// One token a line; blank lines and # comments do not count. Errors: as of [`read_secret`], or the line that is no token.
pub(super) fn read_tokens(path: &Path) -> Result<Vec<Token>, String> {
    let shown = path.display();
    let text = String::from_utf8(read_secret(path)?)
        .map_err(|_| format!("{shown} is no text; write one token a line"))?;
    let mut tokens = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let (line, number) = (line.trim(), at + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !line.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "{shown}, line {number}: a token has letters, digits and signs of ASCII, and no blanks"
            ));
        }
        if line.len() < LEAST_BYTES {
            return Err(format!(
                "{shown}, line {number}: the token has {} bytes, and needs {LEAST_BYTES} at least: openssl rand -hex 32",
                line.len()
            ));
        }
        tokens.push(Token(line.to_owned()));
    }
    if tokens.is_empty() {
        return Err(format!(
            "{shown} has no token in it: openssl rand -hex 32 > {shown}"
        ));
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_gives_its_files_role_and_is_never_shown() {
        let tokens = Tokens::of(&[
            (Role::Trainer, "trainer-trainer-1"),
            (Role::Operator, "operator-operator-1"),
        ]);
        for (word, roles) in [
            ("trainer-trainer-1", Some(Roles::of(Role::Trainer))),
            ("operator-operator-1", Some(Roles::of(Role::Operator))),
            ("operator-operator-2", None),
            ("operator-operator-", None),
            ("operator-operator-12", None),
            ("", None),
        ] {
            assert_eq!(tokens.roles(word.as_bytes()), roles, "{word:?}");
        }
        assert!(tokens.has(Role::Trainer) && !tokens.has(Role::Viewer));
        let shown = format!("{tokens:?}");
        assert!(
            !shown.contains("trainer-trainer") && shown.contains("Token(…)"),
            "{shown}"
        );
    }

    #[test]
    fn every_mistake_in_a_file_is_one_line_without_the_token() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("tokens");
        let write = |text: &str, mode: u32| {
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
            read_tokens(&path)
        };
        let good = "# of the cluster\n\n  0123456789abcdef  \n0123456789abcdeg\n";
        assert_eq!(write(good, 0o600).map(|tokens| tokens.len()), Ok(2));
        assert_eq!(write(good, 0o400).map(|tokens| tokens.len()), Ok(2));
        for (text, mode, words) in [
            (
                good,
                0o640,
                "mode 0640, so other users could read it: chmod 600 ",
            ),
            (good, 0o604, "mode 0604"),
            ("# none\n\n", 0o600, "has no token in it"),
            (
                "0123456789abcdef\nhunter2\n",
                0o600,
                "line 2: the token has 7 bytes",
            ),
            ("0123456789 abcdef\n", 0o600, "line 1: a token has letters"),
        ] {
            let why = write(text, mode).expect_err(words);
            assert!(why.contains(words) && why.contains("tokens"), "{why}");
            assert!(!why.contains('\n') && !why.contains("hunter2"), "{why}");
        }
        assert!(
            read_tokens(folder.path())
                .expect_err("a folder")
                .contains("is no file")
        );
        assert!(
            read_tokens(&folder.path().join("none"))
                .expect_err("nothing")
                .contains("cannot be read")
        );
    }
}
