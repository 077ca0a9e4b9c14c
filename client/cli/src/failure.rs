//! Why a verb ended without doing its work: one line for a person, one exit code for a script.

use std::io;

use hookbus_client::access::AccessError;
use hookbus_client::address::AddressError;
use hookbus_client::inspect::InspectError;

/// It was tried and did not work.
pub(crate) const FAILED: u8 = 1;
/// It was asked for in a way that cannot work: arguments, an address, a configuration.
pub(crate) const USAGE: u8 = 2;

/// The line and the exit code. An empty line is not printed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn failed(text: impl Into<String>) -> Failure {
        Failure {
            code: FAILED,
            text: text.into(),
        }
    }

    pub(crate) fn usage(text: impl Into<String>) -> Failure {
        Failure {
            code: USAGE,
            text: text.into(),
        }
    }

    /// The reader of our output went away (`hookbus runs | head -1`): it has what it wanted.
    pub(crate) fn output(error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure {
                code: 0,
                text: String::new(),
            };
        }
        Failure::failed(format!(
            "cannot write the answer to standard output: {error}"
        ))
    }
}

impl From<InspectError> for Failure {
    fn from(error: InspectError) -> Failure {
        Failure::failed(error.to_string())
    }
}

impl From<AddressError> for Failure {
    fn from(error: AddressError) -> Failure {
        Failure::usage(error.to_string())
    }
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Failure {
        Failure::usage(error.to_string())
    }
}
