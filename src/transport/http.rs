//! What a request gets: an upgrade, a page, or a refusal that says why.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::is_reserved_path;
use crate::hub::ReaderKey;
use crate::protocol::handshake::{Upgrade, is_upgrade, upgrade};
use crate::protocol::http::{HeadLimits, HttpError, Method, Request, response};
use crate::protocol::websocket::WebSocket;
use crate::transport::connection::{Phase, Protocol};
use crate::transport::ending::ABNORMAL;
use crate::transport::events::{Event, Opening};
use crate::transport::shard::Shard;

impl Shard {
    pub fn receive_head(&mut self, key: ReaderKey, chunk: &[u8]) {
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        let Phase::Head(head) = &mut connection.phase else { return };
        head.buffer.extend_from_slice(chunk);
        match head.reader.read(&head.buffer, &HeadLimits::default()) {
            Ok(None) => {}
            Ok(Some((request, size))) => {
                connection.unread = head.buffer[size..].to_vec();
                self.answer(key, request);
            }
            Err(error) => self.refuse(key, error),
        }
    }

    fn answer(&mut self, key: ReaderKey, request: Request) {
        let done = if is_upgrade(&request) {
            self.upgrade(key, request)
        } else {
            self.page(&request).map(|bytes| self.say_last(key, &bytes, ABNORMAL, ""))
        };
        if let Err(error) = done {
            self.refuse(key, error);
        }
    }

    fn refuse(&mut self, key: ReaderKey, error: HttpError) {
        self.counters.refused.add(1);
        self.say_last(key, &error.to_response(), ABNORMAL, "");
    }

    fn page(&self, request: &Request) -> Result<Vec<u8>, HttpError> {
        let shared = &self.shared;
        let draining = self.is_draining() || shared.draining.load(Ordering::Relaxed);
        let plain = ("Content-Type", "text/plain; charset=utf-8");
        let built_in = match request.path() {
            "/healthz" => Some((200, "ok\n")),
            "/readyz" if draining => Some((503, "draining\n")),
            "/readyz" => Some((200, "ready\n")),
            _ => None,
        };
        if built_in.is_none() && is_reserved_path(request.path()) {
            return Err(HttpError::NOT_FOUND);
        }
        let page = shared.pages.get(request.path()).filter(|_| built_in.is_none());
        if built_in.is_none() && page.is_none() {
            let speaks_websocket = request.path() == shared.config.websocket_path
                || shared.routes.iter().any(|route| route.matches(request.path()).is_some());
            return Err(if speaks_websocket { UPGRADE_REQUIRED } else { HttpError::NOT_FOUND });
        }
        if request.has_body() {
            return Err(HttpError::BODY_TOO_LONG);
        }
        if !matches!(request.method(), Method::Get | Method::Head) {
            return Err(ONLY_GET);
        }
        let mut bytes = match (page, built_in) {
            (Some(page), _) => {
                let headers = [("Content-Type", &*page.content_type), ("Cache-Control", "no-cache")];
                response(200, &headers, &page.body)
            }
            (None, Some((status, body))) => response(status, &[plain], body.as_bytes()),
            (None, None) => return Err(HttpError::NOT_FOUND),
        }
        .map_err(|_| BAD_PAGE)?;
        if request.method() == Method::Head {
            let head = bytes.windows(4).position(|end| end == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
            bytes.truncate(head);
        }
        Ok(bytes)
    }

    fn upgrade(&mut self, key: ReaderKey, request: Request) -> Result<(), HttpError> {
        let shared = Arc::clone(&self.shared);
        if self.is_draining() || shared.draining.load(Ordering::Relaxed) {
            return Err(DRAINING);
        }
        let path = request.path();
        if is_reserved_path(path) {
            return Err(HttpError::NOT_FOUND);
        }
        let (route, params, policy) = if path == shared.config.websocket_path {
            (None, Vec::new(), &shared.policy)
        } else {
            let matching =
                |(index, route): (usize, &crate::channel::Pattern)| Some((index, route.matches(path)?));
            let (index, params) =
                shared.routes.iter().enumerate().find_map(matching).ok_or(HttpError::NOT_FOUND)?;
            (Some(index), params.into_iter().map(str::to_owned).collect(), &shared.route_policy)
        };
        let Upgrade { deflate, response, .. } = upgrade(&request, policy)?;
        let wire = self.hub.encoder().wire(deflate.map(|parameters| parameters.server_max_window_bits));
        let websocket = WebSocket::new(shared.config.max_message, deflate);
        let protocol = Protocol { websocket, wire, is_route: route.is_some() };

        let Some(connection) = self.connections.get_mut(key as usize) else { return Ok(()) };
        connection.phase = Phase::Asked(protocol);
        self.replies.extend_from_slice(&response);
        let backlog = route.map(|_| Arc::new(AtomicUsize::new(0)));
        if backlog.is_some() {
            connection.extra().backlog.clone_from(&backlog);
        }
        shared.clients.lock().unwrap_or_else(PoisonError::into_inner).insert(connection.id, backlog);
        let config = &shared.config;
        if route.is_some() || config.authenticate || config.notify_connect {
            let opening = Opening {
                peer: connection.io.peer(),
                secure: connection.io.is_secure(),
                route,
                params,
                public_id: shared.public_id(connection.id),
                request,
            };
            connection.known = true;
            let client = connection.id;
            shared.inbox.push(Event::Open { client, opening: Box::new(opening) });
        }
        if !config.authenticate {
            self.admit(key);
        }
        self.flush_replies(key);
        Ok(())
    }

    /// Lets a connection in.
    pub fn admit(&mut self, key: ReaderKey) {
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        let Phase::Asked(_) = connection.phase else { return };
        let Phase::Asked(protocol) =
            std::mem::replace(&mut connection.phase, Phase::Closing { ended: true, answer: None })
        else {
            return;
        };
        let (is_route, wire) = (protocol.is_route, protocol.wire);
        connection.phase = Phase::Open(protocol);
        connection.paused = self.shared.config.await_connect && !is_route;
        connection.keepalive.opened(self.now);
        connection.wake();
        let blocked = connection.outbox.is_some();
        self.hub.join(key, wire);
        if blocked {
            self.hub.blocked(key);
        }
        if !is_route {
            self.greet(key);
        }
        self.schedule(key);
    }
}

/// The server has as many connections as it may.
pub(crate) const FULL: HttpError =
    HttpError::new(503, "too many connections now").with_headers(&[("Retry-After", "1")]);
const UPGRADE_REQUIRED: HttpError = HttpError::new(426, "this path speaks WebSocket")
    .with_headers(&[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]);
const ONLY_GET: HttpError =
    HttpError::new(405, "only GET and HEAD are answered here").with_headers(&[("Allow", "GET, HEAD")]);
const DRAINING: HttpError =
    HttpError::new(503, "the server is stopping").with_headers(&[("Retry-After", "1")]);
const BAD_PAGE: HttpError = HttpError::new(500, "the content type of this page is not a legal header");
