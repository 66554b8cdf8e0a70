//! The exit codes of Roomwire's processes, for supervisors (numbers from `sysexits.h` where one fits).

/// Asked to stop, and stopped.
pub const CLEAN: u8 = 0;
/// Anything without a code of its own; the last log line says what.
pub const FAILED: u8 = 1;
/// Discord refused for good (a wrong token, intents that are not granted): restarting does not help.
pub const DISCORD_REFUSED: u8 = 69;
/// A newer process has taken over (`EX_TEMPFAIL`). A restart is allowed.
pub const FENCED: u8 = 75;
/// A setting is missing or wrong: restarting does not help.
pub const CONFIGURATION: u8 = 78;
