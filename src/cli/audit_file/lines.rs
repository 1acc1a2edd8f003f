//! Takes the lines of a file apart on all cores, and gives them in their order. Memory: a few
//! blocks a core.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::super::CliError;
use crate::domain::chains::{ChainId, Chains, Judged};
use crate::domain::export::{MANIFEST, RECORD, SIGNED, read_record};

/// Lines are read in blocks of about so many bytes.
const BLOCK_BYTES: usize = 1 << 20;

/// No line is longer: the manifest of 100,000 chains has some 20 MB.
pub(super) const LINE_BYTES_MAX: usize = 256 << 20;

/// Blocks that wait for a thread, and results that wait to be put in order.
const WAITING: usize = 2;

/// More threads than this would wait for the disk.
const THREADS_MAX: usize = 8;

/// What a line turned out to be.
enum Item {
    /// The records that follow are of this chain.
    Chain(ChainId),
    Record(Judged),
    /// Which line of the block, and why.
    Unreadable(u64, String),
}

struct Block {
    items: Vec<Item>,
    lines: u64,
    bytes: u64,
}

/// Takes every record of a file into `chains`.
pub(super) fn take_all(path: &Path, chains: &mut Chains, progress: &(dyn Fn(u64) + Sync)) -> Result<(), CliError> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let file = File::open(path).map_err(|e| unreadable(path, &e))?;
    let read = thread::scope(|scope| {
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        for _ in 0..threads {
            let (input, blocks) = sync_channel::<Vec<u8>>(WAITING);
            let (results, output) = sync_channel::<Block>(WAITING);
            scope.spawn(move || work(&blocks, &results));
            inputs.push(input);
            outputs.push(output);
        }
        let reader = scope.spawn(move || deal(file, &inputs));
        gather(&outputs, chains, progress);
        // Nothing in `deal` panics.
        reader.join().unwrap_or_else(|_| Err(io::Error::other("the reader broke off")))
    });
    read.map_err(|e| unreadable(path, &e))
}

pub(super) fn unreadable(path: &Path, why: &io::Error) -> CliError {
    let advice = "name a file that `riskfleet audit export` has written, and that you may read";
    CliError::Input { file: path.display().to_string(), why: why.to_string(), advice }
}

/// Deals whole lines to the threads in turn; ends when the file does, or nobody takes them.
fn deal(mut file: File, inputs: &[SyncSender<Vec<u8>>]) -> io::Result<()> {
    let mut rest = Vec::new();
    for input in inputs.iter().cycle() {
        let Some(block) = next_block(&mut file, &mut rest)? else { break };
        if input.send(block).is_err() {
            break;
        }
    }
    Ok(())
}

/// Reads on to the end of a line behind [`BLOCK_BYTES`]; what stands behind it waits in `rest`.
fn next_block(file: &mut File, rest: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let mut block = std::mem::take(rest);
    loop {
        let read = Read::by_ref(file).take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
        if read == 0 {
            return Ok((!block.is_empty()).then_some(block));
        }
        if let Some(end) = block.iter().rposition(|c| *c == b'\n') {
            *rest = block.split_off(end + 1);
            return Ok(Some(block));
        }
        if block.len() > LINE_BYTES_MAX {
            return Err(io::Error::other(format!("a line has more than {LINE_BYTES_MAX} bytes")));
        }
    }
}

fn work(blocks: &Receiver<Vec<u8>>, results: &SyncSender<Block>) {
    for block in blocks {
        if results.send(apart(&block)).is_err() {
            return;
        }
    }
}

fn apart(text: &[u8]) -> Block {
    let mut block = Block { items: Vec::with_capacity(text.len() / 512), lines: 0, bytes: text.len() as u64 };
    let mut chain: Option<ChainId> = None;
    let whole = text.strip_suffix(b"\n").unwrap_or(text);
    for line in whole.split(|c| *c == b'\n') {
        block.lines += 1;
        if !line.starts_with(RECORD) {
            // What is signed was read before.
            if !line.starts_with(SIGNED) && !line.starts_with(MANIFEST) {
                block.items.push(Item::Unreadable(block.lines, "it is no line of an export".into()));
            }
            continue;
        }
        match read_record(line, chain.as_ref()) {
            Ok((other, judged)) => {
                if let Some(other) = other {
                    chain = Some(other.clone());
                    block.items.push(Item::Chain(other));
                }
                block.items.push(Item::Record(judged));
            }
            Err(why) => block.items.push(Item::Unreadable(block.lines, why)),
        }
    }
    block
}

fn gather(outputs: &[Receiver<Block>], chains: &mut Chains, progress: &(dyn Fn(u64) + Sync)) {
    let (mut chain, mut lines) = (None, 0);
    for output in outputs.iter().cycle() {
        // Blocks were dealt in turn: the first thread without one has seen the end.
        let Ok(block) = output.recv() else { return };
        for item in block.items {
            match (item, &chain) {
                (Item::Chain(id), _) => chain = Some(id),
                (Item::Record(judged), Some(id)) => chains.take(id, judged),
                // A block's first record names its chain.
                (Item::Record(_), None) => {}
                (Item::Unreadable(nth, why), _) => chains.unreadable(lines + nth, &why),
            }
        }
        lines += block.lines;
        progress(block.bytes);
    }
}
