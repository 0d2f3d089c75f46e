//! A plan's original JSON, reassembled while it is streamed.

use std::io;

use axum::body::Bytes;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::problem::Problem;
use crate::state::{PlanChunk, PlanChunkInfo, PlanList, StateStore, list_places};

/// Pieces of JSON for the client.
type Pieces = mpsc::Sender<io::Result<Bytes>>;

/// The client has closed the connection.
struct HungUp;

/// Streams the JSON of the plan of a run in pieces, if it is still stored. Retained tags are missing if the plan no
/// longer has them.
pub(super) async fn plan_json(
    store: &StateStore,
    run: Uuid,
) -> Result<Option<mpsc::Receiver<io::Result<Bytes>>>, Problem> {
    let Some(head) = store.plan_head(run).await? else { return Ok(None) };
    let (chunks, store) = (store.plan_chunks(run).await?, store.clone());
    let (pieces, receive) = mpsc::channel(4);
    tokio::spawn(async move {
        // A failure means that the client has closed the connection.
        let _ = send_plan(&store, run, head.as_bytes(), &list_places(&head), &chunks, &pieces).await;
    });
    Ok(Some(receive))
}

async fn send_plan(
    store: &StateStore,
    run: Uuid,
    head: &[u8],
    places: &[(PlanList, usize)],
    chunks: &[PlanChunkInfo],
    pieces: &Pieces,
) -> Result<(), HungUp> {
    let mut rest = 0;
    for (list, place) in places {
        send(pieces, Ok(head[rest..*place].to_vec())).await?;
        rest = *place;
        let mut is_first = true;
        for chunk in chunks.iter().filter(|chunk| has_tags(chunk, *list)) {
            let json = match list_json(store, run, chunk.ordinal, *list).await {
                Ok(json) => json,
                Err(error) => return send(pieces, Err(error)).await,
            };
            let tags = json.strip_prefix(b"[").and_then(|json| json.strip_suffix(b"]")).unwrap_or_default();
            let comma: &[u8] = if is_first { b"" } else { b"," };
            send(pieces, Ok([comma, tags].concat())).await?;
            is_first = false;
        }
    }
    send(pieces, Ok(head[rest..].to_vec())).await
}

async fn send(pieces: &Pieces, piece: io::Result<Vec<u8>>) -> Result<(), HungUp> {
    pieces.send(piece.map(Bytes::from)).await.map_err(|_| HungUp)
}

fn has_tags(chunk: &PlanChunkInfo, list: PlanList) -> bool {
    match list {
        PlanList::Removals => chunk.counts.expired > 0,
        PlanList::Kept => chunk.counts.kept() > 0 && chunk.has_kept,
    }
}

/// Returns the JSON array of one list of a chunk.
async fn list_json(store: &StateStore, run: Uuid, ordinal: u32, list: PlanList) -> io::Result<Vec<u8>> {
    let chunk = store.plan_chunk(run, ordinal).await.map_err(io::Error::other)?;
    let chunk = chunk.ok_or_else(|| io::Error::other("the plan was forgotten meanwhile"))?;
    let read = tokio::task::spawn_blocking(move || match list {
        PlanList::Removals => PlanChunk::json(&chunk.removals),
        PlanList::Kept => PlanChunk::json(&chunk.kept),
    });
    read.await.map_err(io::Error::other)?
}
