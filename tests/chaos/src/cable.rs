//! A [`Cable`] between the worker and Discord's gateway that can be cut, or can swallow bytes.

use tokio::io::{copy, copy_bidirectional, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Forwards connections. A cut ends the open ones and refuses new ones. A cable that swallows ends
/// the connections at Discord, while the worker sees nothing: new connections are accepted and never
/// answered. Dropping the cable ends it.
pub struct Cable {
    address: String,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    Cut,
    Swallows,
}

impl Cable {
    /// Listens on a free port and leads to this address.
    pub async fn start(to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (state, known) = watch::channel(State::Whole);
        let to = to.to_owned();
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(lead(near, to.clone(), known.clone()));
            }
        });
        Self {
            address,
            state,
            task,
        }
    }

    /// Where it begins.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Cuts it.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Swallows what the worker sends, and sends it nothing.
    pub fn swallow(&self) {
        self.state.send_replace(State::Swallows);
    }

    /// Mends it. Swallowed bytes are lost.
    pub fn mend(&self) {
        self.state.send_replace(State::Whole);
    }
}

/// One connection, until either end or the cable ends it. One that was swallowed once leads nowhere any
/// more: it stands until its near end gives it up.
async fn lead(mut near: TcpStream, to: String, mut state: watch::Receiver<State>) {
    let mut now = *state.borrow_and_update();
    if now == State::Whole {
        let Ok(mut far) = TcpStream::connect(to).await else {
            return;
        };
        tokio::select! {
            _ended = copy_bidirectional(&mut near, &mut far) => return,
            changed = state.wait_for(|state| *state != State::Whole) => {
                now = changed.map_or(State::Cut, |state| *state);
            }
        }
    }
    if now == State::Swallows {
        // How it ends is of no interest.
        let _ended = copy(&mut near, &mut sink()).await;
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.task.abort();
    }
}
