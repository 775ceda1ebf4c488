//! What the settings say about handshakes and greetings.

use crate::config::{Config, ConfigError, OriginSetting};
use crate::protocol::deflate::DeflatePolicy;
use crate::protocol::forwarded::Proxies;
use crate::protocol::handshake::Policy;
use crate::protocol::hosts::{Hosts, Reach};
use crate::protocol::http::HeadLimits;
use crate::protocol::origins::Origins;
use crate::rules::Rules;
use crate::session::Terms;

/// Checks that a listener for operators is guarded where it can be reached from a network.
///
/// # Errors
/// [`ConfigError::NoToken`].
pub(crate) fn check_admin(config: &Config) -> Result<(), ConfigError> {
    let is_far = config.admin_address().is_some_and(|(host, _)| Reach::of(host) != Reach::Loopback);
    match &config.admin {
        Some(address) if is_far && config.admin_token.is_none() => Err(ConfigError::NoToken(address.clone())),
        _ => Ok(()),
    }
}

/// The policy of a path where these subprotocols are spoken.
pub(crate) fn policy(config: &Config, subprotocols: Vec<String>) -> Policy {
    let origins = match &config.origins {
        None => Origins::SameHost(hosts(config)),
        Some(OriginSetting::Any(_)) => Origins::Any,
        Some(OriginSetting::List(list)) => Origins::List(list.clone()),
    };
    let deflate =
        DeflatePolicy { client_context_takeover: config.client_context_takeover, ..DeflatePolicy::default() };
    Policy { subprotocols, deflate: config.deflate.then_some(deflate), origins }
}

/// What all clients are told first.
pub(crate) fn terms(config: &Config, rules: &Rules) -> Terms {
    Terms {
        session_ttl: config.session_ttl,
        tell_senders: rules.tell_senders(),
        reconnect_window: config.reconnect_window,
        heartbeat: config.heartbeat,
        tick: config.tick,
        under_way: config.under_way(),
    }
}

/// The proxies that are believed.
pub(crate) fn proxies(config: &Config) -> Proxies {
    Proxies::new(&config.trusted_proxies, config.proxy_header)
}

/// How large a request head may be.
pub(crate) fn head_limits(config: &Config) -> HeadLimits {
    HeadLimits {
        head_bytes: config.max_head_bytes,
        headers: config.max_headers,
        target_bytes: config.max_head_bytes / 2,
    }
}

fn hosts(config: &Config) -> Hosts {
    let reach = config.unix_socket.as_ref().map_or_else(|| Reach::of(&config.host), |_| Reach::UnixSocket);
    Hosts::new(reach, &config.allowed_hosts)
}
