//! [`keep`]: sends LISTEN and UNLISTEN as the subscriptions of a hub need them.

use std::sync::Arc;

use super::shared::HubShared;
use crate::listener::ListenerHandle;

/// Sends the changes of the [routes](super::routes), one group after the other, until the hub ends. Changes that come while a group
/// is sent are the next group.
pub(super) async fn keep(shared: Arc<HubShared>, listener: ListenerHandle) {
    loop {
        let changes = {
            let mut routes = shared.lock();
            if routes.is_refusing() {
                return;
            }
            routes.changes()
        };
        if !changes.listen.is_empty() {
            let result = listener.listen_all(&changes.listen).await;
            let mut woken = shared.lock().listened(changes.listen, result.map(drop));
            woken.wake();
        }
        if !changes.unlisten.is_empty() {
            let result = listener.unlisten_many(&changes.unlisten).await;
            shared.lock().unlistened(&changes.unlisten, &result);
        }
        if !shared.lock().has_changes() {
            shared.changed.notified().await;
        }
    }
}
