//! The figures for the page of operators: a stream of snapshots, one a second, the same for all who look. Nothing is found out while nobody
//! does.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{sleep, sleep_until, timeout};

use crate::moment::Moment;
use crate::transport::commands::Command;
use crate::transport::events::Level;
use crate::transport::process::Process;
use crate::transport::shared::Shared;
use crate::transport::sights::{Look, ShardSight};
use crate::transport::snapshot::Figures;
use crate::transport::survey::Survey;

/// Who looks, and what they are shown. It lives on the thread of the listener for operators.
pub(crate) struct Dashboard {
    shared: Arc<Shared>,
    /// Unix time of the start, in milliseconds, and its moment.
    started: (u64, Moment),
    /// The newest event, and how many there were.
    newest: RefCell<Option<(u64, Rc<[u8]>)>>,
    news: Notify,
    /// Held by each stream.
    places: Rc<()>,
    /// A task finds the figures out.
    sampling: Cell<bool>,
}

/// A stream that may begin.
pub(crate) struct Place {
    dashboard: Rc<Dashboard>,
    _counted: Rc<()>,
}

impl Dashboard {
    pub fn new(shared: &Arc<Shared>) -> Self {
        Self {
            started: (shared.clock.unix_millis(), shared.clock.now()),
            shared: Arc::clone(shared),
            newest: RefCell::default(),
            news: Notify::new(),
            places: Rc::default(),
            sampling: Cell::new(false),
        }
    }

    /// A place for another stream. `None`: as many as may be are open.
    pub fn place(self: &Rc<Self>) -> Option<Place> {
        if self.streams() == MOST_STREAMS {
            return None;
        }
        let place = Place { dashboard: Rc::clone(self), _counted: Rc::clone(&self.places) };
        if !self.sampling.replace(true) {
            spawn_local(sample(Sampling(Rc::clone(self))));
        }
        Some(place)
    }

    fn streams(&self) -> usize {
        Rc::strong_count(&self.places) - 1
    }

    /// The newest event, with its number. It waits for one that comes after this number. `None`: nothing more comes.
    async fn after(&self, seen: u64) -> Option<(u64, Rc<[u8]>)> {
        while self.sampling.get() {
            let newest = self.newest.borrow().clone();
            if let Some(newest) = newest.filter(|(number, _)| *number > seen) {
                return Some(newest);
            }
            self.news.notified().await;
        }
        None
    }
}

impl Place {
    /// Sends one snapshot after the other, until the peer ends or does not read.
    pub async fn stream(self, socket: TcpStream, head: Vec<u8>) {
        // So that a peer that is gone without a word is noticed soon.
        let _ = socket2::SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER);
        let mut bytes: Rc<[u8]> = head.into();
        let mut seen = 0;
        while matches!(timeout(PATIENCE, send(&socket, &bytes)).await, Ok(Ok(()))) && !has_ended(&socket) {
            let Some(newest) = self.dashboard.after(seen).await else { return };
            (seen, bytes) = newest;
        }
    }
}

/// Writes all of it.
pub(crate) async fn send(socket: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        socket.writable().await?;
        match socket.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the peer has ended its side. What it says means nothing.
fn has_ended(socket: &TcpStream) -> bool {
    match socket.try_read(&mut [0; 256]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// The task that finds figures out. After its end another one may begin.
struct Sampling(Rc<Dashboard>);

impl Drop for Sampling {
    fn drop(&mut self) {
        let Dashboard { shared, newest, sampling, news, .. } = &*self.0;
        newest.replace(None);
        sampling.set(false);
        shared.inbox.watch(false);
        if std::thread::panicking() {
            shared.log(Level::Error, "a snapshot for the dashboard panicked; its pages have to come back");
            news.notify_waiters();
        }
    }
}

/// Finds the figures out as long as somebody looks. It ends by itself, or with the runtime.
async fn sample(sampling: Sampling) {
    let dashboard = &*sampling.0;
    let shared = &*dashboard.shared;
    shared.inbox.watch(true);
    let (mut shards, mut survey) = (Shards::new(shared), Survey::default());
    let (mut process, mut number) = (Process::default(), 0_u64);
    while dashboard.streams() > 0 {
        let began = shared.clock.now();
        shared.inbox.probe();
        shards.ask(began);
        survey.go_on(&*shared.broker, &shared.clock).await;
        sleep(GATHERING).await;
        process = if number.is_multiple_of(FILES_EVERY) {
            Process::now()
        } else {
            // Older kernels make a list of all descriptors.
            Process { files: process.files, most_files: process.most_files, ..Process::in_brief() }
        };
        let now = shared.clock.now();
        let (started, start) = dashboard.started;
        let figures = Figures {
            shared,
            started,
            uptime: now.since(start),
            process: &process,
            shards: shards.answers(now),
            channels: &survey.top,
        };
        let event = [&b"data: "[..], &figures.to_json(), b"\n\n"].concat();
        number += 1;
        dashboard.newest.replace(Some((number, event.into())));
        dashboard.news.notify_waiters();
        // Once more in the middle, so that a blocked Python is seen sooner.
        sleep_until(shared.clock.instant(began + INTERVAL / 2).into()).await;
        shared.inbox.probe();
        sleep_until(shared.clock.instant(began + INTERVAL).into()).await;
    }
}

/// What the shards say.
struct Shards<'a> {
    shared: &'a Shared,
    /// Since when they owe an answer.
    asked: Vec<Option<Moment>>,
    answers: Vec<(Option<ShardSight>, Duration)>,
    told: Sender<ShardSight>,
    hears: Receiver<ShardSight>,
}

impl<'a> Shards<'a> {
    fn new(shared: &'a Shared) -> Self {
        let (told, hears) = channel();
        let count = shared.commands.len();
        let answers = std::iter::repeat_with(|| (None, Duration::ZERO)).take(count).collect();
        Self { shared, asked: vec![None; count], answers, told, hears }
    }

    /// Asks those that owe no answer.
    fn ask(&mut self, now: Moment) {
        for (commands, asked) in self.shared.commands.iter().zip(&mut self.asked) {
            if asked.is_none() {
                *asked = Some(now);
                let look = Look { next: 0, found: Vec::new(), told: self.told.clone() };
                commands.push(Command::Look(Box::new(look)));
            }
        }
    }

    /// What each said last, and since when it owes an answer.
    fn answers(&mut self, now: Moment) -> &[(Option<ShardSight>, Duration)] {
        for sight in self.hears.try_iter() {
            let shard = sight.shard;
            self.asked[shard] = None;
            self.answers[shard].0 = Some(sight);
        }
        for (answer, asked) in self.answers.iter_mut().zip(&self.asked) {
            answer.1 = asked.map_or(Duration::ZERO, |asked| now.since(asked));
        }
        &self.answers
    }
}

/// Between two snapshots.
const INTERVAL: Duration = Duration::from_secs(1);

/// What shards and Python have for an answer. Who is later is told of in the next snapshot.
const GATHERING: Duration = Duration::from_millis(50);

/// Snapshots between two counts of the descriptors.
const FILES_EVERY: u64 = 10;

/// Streams at a time. Another one is told so: if the oldest had to go, two pages that come back would end each other for ever.
const MOST_STREAMS: usize = 16;

/// For which a stream may take nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// In bytes (`SO_SNDBUF`): some snapshots.
const SEND_BUFFER: usize = 64 * 1024;
