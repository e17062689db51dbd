//! Text input: files, and stdin together with an argument.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use firelight::Error;
use firelight::text::{decode, without_mark};

use super::Result;
use super::term::{self, Failure};

/// How long a pipe may stay silent before the argument alone is used. Programs that start this one often leave its
/// stdin open and never write to it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Limit of bytes read from stdin.
const LIMIT: usize = 64 << 20;
/// When to tell the user that the program waits for stdin.
const NOTICE: Duration = Duration::from_secs(2);

/// The text of a file; `-` is stdin.
pub fn read_text(path: &Path) -> Result<String> {
    let failed = |error| Error::io(format!("cannot read {}", path.display()), error);
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).map(|_| bytes).map_err(failed)?
    } else {
        fs::read(path).map_err(failed)?
    };
    Ok(decode(bytes, &path.display().to_string())?)
}

/// The text on stdin, unless stdin is a terminal. A background thread reads it from the start.
pub struct Stdin(Receiver<io::Result<Vec<u8>>>);

impl Stdin {
    pub fn begin() -> Self {
        let (tell, told) = mpsc::sync_channel(16);
        if !io::stdin().is_terminal() {
            // The thread ends when stdin or the program does.
            thread::spawn(move || {
                let (mut stdin, mut buffer) = (io::stdin().lock(), vec![0; 1 << 16]);
                loop {
                    let read = match stdin.read(&mut buffer) {
                        Ok(0) => return,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                        read => read.map(|n| buffer[..n].to_vec()),
                    };
                    let failed = read.is_err();
                    if tell.send(read).is_err() || failed {
                        return;
                    }
                }
            });
        }
        Stdin(told)
    }

    /// The whole text: stdin, a blank line, and `argument`; or only one of them. Without an argument it waits for stdin
    /// without a limit; with one, it gives up on an open and silent stdin after [`PATIENCE`].
    pub fn before(&self, argument: Option<&str>) -> Result<Option<String>> {
        let argument = argument.map(without_mark);
        let piped = self.read(argument.map(|_| PATIENCE))?;
        Ok(match (piped, argument) {
            (Some(piped), Some(argument)) if !argument.is_empty() && !piped.trim().is_empty() => {
                Some(format!("{}\n\n{argument}", piped.trim_end_matches(['\r', '\n'])))
            }
            (Some(piped), None | Some("")) => Some(piped),
            (_, argument) => argument.map(str::to_string),
        })
    }

    /// The text on stdin, or `None` if it ends empty or stays silent for `patience`.
    fn read(&self, patience: Option<Duration>) -> Result<Option<String>> {
        let mut first = self.0.recv_timeout(NOTICE);
        if let Err(RecvTimeoutError::Timeout) = first {
            term::note("waiting for text on stdin; add < /dev/null if there is none");
            let more = patience.map_or(Duration::MAX, |patience| patience.saturating_sub(NOTICE));
            first = self.0.recv_timeout(more);
        }
        match first {
            Ok(first) => {
                let mut bytes = Vec::new();
                for piece in [first].into_iter().chain(self.0.iter()) {
                    bytes.extend(piece.map_err(|e| Failure::usage(format!("cannot read stdin: {e}")))?);
                    if bytes.len() > LIMIT {
                        let limit = term::bytes(LIMIT as u64);
                        return Err(Failure::usage(format!("stdin has more than {limit}, which fits no context")));
                    }
                }
                Ok(Some(decode(bytes, "stdin")?).filter(|text| !text.is_empty()))
            }
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                term::note("nothing arrived on stdin; continuing without it");
                Ok(None)
            }
        }
    }

    /// Fails if text arrived after `before` gave up on stdin.
    pub fn check(&self) -> Result {
        match self.0.try_recv() {
            Ok(Ok(_)) => Err(Failure::usage(
                "text arrived on stdin too late and was ignored; to wait for it without a limit, send the whole prompt on \
                stdin",
            )),
            _ => Ok(()),
        }
    }
}
