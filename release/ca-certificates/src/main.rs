//! Prints the certificate authorities that Mozilla trusts, as PEM, for the image's file `ca-certificates.crt`.
//!
//! They come from a crate that `Cargo.lock` pins, so that one commit always gives one image.

use std::io::{self, Write as _};

use pem::{EncodeConfig, LineEnding, Pem};

fn main() -> io::Result<()> {
    let lines = EncodeConfig::new().set_line_ending(LineEnding::LF);
    let mut output = io::stdout().lock();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        let pem = Pem::new("CERTIFICATE", certificate.as_ref());
        output.write_all(pem::encode_config(&pem, lines).as_bytes())?;
    }
    output.flush()
}
