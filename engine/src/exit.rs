//! How the process ends: the exit codes that scripts may rely on.
//!
//! Which error leads to which code is decided where the error is known, not here.

/// Exit code of `corefold`. The numbers above 2 are those of BSD `sysexits.h`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum ExitCode {
    /// All done.
    Done = 0,
    /// Something failed while running that has no code of its own.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The input data are wrong.
    BadData = 65,
    /// Reading or writing failed.
    Io = 74,
    /// The configuration file is wrong.
    BadConfig = 78,
}

impl ExitCode {
    /// Every code.
    pub const ALL: [ExitCode; 6] =
        [ExitCode::Done, ExitCode::Failure, ExitCode::Usage, ExitCode::BadData, ExitCode::Io, ExitCode::BadConfig];

    /// The number that the process returns.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// One line for the manual page.
    pub const fn meaning(self) -> &'static str {
        match self {
            ExitCode::Done => "done",
            ExitCode::Failure => "runtime failure",
            ExitCode::Usage => "wrong command line",
            ExitCode::BadData => "bad input data",
            ExitCode::Io => "I/O error",
            ExitCode::BadConfig => "bad configuration",
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> std::process::ExitCode {
        std::process::ExitCode::from(code.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_promised_ones() {
        assert_eq!(ExitCode::ALL.map(ExitCode::code), [0, 1, 2, 65, 74, 78]);
    }
}
