//! Arguments of commands that connect to an engine: whom to trust, and what to prove oneself by.
//!
//! What they lead to is in [`crate::commands::identity`].

use clap::Args;
use std::path::PathBuf;

/// Environment variable that holds a token.
pub const TOKEN_VARIABLE: &str = "COREFOLD_TOKEN";

/// See the module.
#[derive(Args, Clone, PartialEq, Debug, Default)]
pub struct SecurityArgs {
    /// Use TLS, and trust servers whose certificate is signed by an authority in this PEM file, and no others [default: no
    /// TLS]
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    pub tls_ca: Option<PathBuf>,

    /// Name that the server's certificate must carry [default: the host of --to]
    #[arg(long, value_name = "NAME", requires = "tls_ca", help_heading = "Security")]
    pub tls_name: Option<String>,

    /// Certificate to show to a server that asks for one, in PEM form; with --tls-key [default: none]
    #[arg(long, value_name = "FILE", requires = "tls_ca", requires = "tls_key", help_heading = "Security")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of --tls-cert, in PEM form
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "Security")]
    pub tls_key: Option<PathBuf>,

    /// File that holds the token of this producer, in one line [default: the environment variable COREFOLD_TOKEN]
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    pub token_file: Option<PathBuf>,
}
