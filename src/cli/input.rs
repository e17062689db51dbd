//! Text from the outside: files, and stdin beside an argument.

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

/// How long a pipe may stay silent before an argument is taken to be all there is. Programs that start this one often
/// leave its stdin open and never write to it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that are read from stdin, at most.
const LIMIT: usize = 64 << 20;
/// When to say what is waited for.
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

/// What comes on stdin, unless it is a terminal. It is read from the start, by a thread of its own.
pub struct Stdin(Receiver<io::Result<Vec<u8>>>);

impl Stdin {
    pub fn begin() -> Self {
        let (tell, told) = mpsc::sync_channel(16);
        if !io::stdin().is_terminal() {
            // The thread ends with stdin, or with the program.
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

    /// The whole text: stdin, then a blank line, then `argument`; or the only one of them. Without an argument stdin is
    /// waited for as long as it takes; beside one, a stdin that stays open and silent is given up after [`PATIENCE`].
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

    /// The text on stdin, or `None` if nothing comes, or nothing within `patience`.
    fn read(&self, patience: Option<Duration>) -> Result<Option<String>> {
        let mut first = self.0.recv_timeout(NOTICE);
        if let Err(RecvTimeoutError::Timeout) = first {
            term::note("waiting for text on stdin; for none, add < /dev/null");
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
                        return Err(Failure::usage(format!(
                            "there are more than {limit} on stdin; no context holds that"
                        )));
                    }
                }
                Ok(Some(decode(bytes, "the text on stdin")?).filter(|text| !text.is_empty()))
            }
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                term::note("nothing came on stdin; it is not waited for any longer");
                Ok(None)
            }
        }
    }

    /// Fails if a text came after stdin was given up.
    pub fn check(&self) -> Result {
        match self.0.try_recv() {
            Ok(Ok(_)) => Err(Failure::usage(
                "text came on stdin after it was no longer waited for, and was not read; to have it read however late it \
                 comes, give the whole prompt on stdin",
            )),
            _ => Ok(()),
        }
    }
}
