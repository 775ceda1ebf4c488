//! The thread of one shard.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, mpsc};

use crate::transport::connections::Connections;
use crate::transport::events::Level;
use crate::transport::listener::{self, Listener};
use crate::transport::shard::Shard;
use crate::transport::shared::Shared;
use crate::transport::upkeep;

/// The life of one thread: it tells once whether it serves. Ends when its shard has drained.
pub(crate) fn run_shard(
    index: usize,
    shared: Arc<Shared>,
    listener: Option<Listener>,
    told: mpsc::Sender<io::Result<()>>,
) {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (runtime, started) = match built {
        Ok(runtime) => (Some(runtime), Ok(())),
        Err(error) => (None, Err(error)),
    };
    // The thread that started this waits for it, and for the end of all that could tell.
    let _ = told.send(started);
    drop(told);
    let Some(runtime) = runtime else { return };
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let spread = shared.config.reuse_port;
        let connections = Rc::new(RefCell::new(Connections::new(index, Arc::clone(&shared))));
        let accepting = listener.map(|listener| {
            let (cell, shared) = (Rc::clone(&connections), Arc::clone(&shared));
            let accepting = tokio::task::spawn_local(async move {
                if let Err(error) = listener::serve(listener, cell, spread).await {
                    shared.log(Level::Error, format!("shard {index} accepts no connections: {error}"));
                }
            });
            accepting.abort_handle()
        });
        // Ended with the runtime.
        if index == 0 {
            upkeep::start(&shared);
        }
        // A task like those of the connections: as the root future it would wait for 61 of them at every turn. It does not
        // panic, because each of its turns is caught.
        let _ = tokio::task::spawn_local(Shard::new(connections, accepting).run()).await;
    });
}
