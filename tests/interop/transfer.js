// Moving bytes both ways between two peers, and knowing that each came as it was sent.

import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { inTime } from './until.js'

const PROTOCOL = '/waystation/interop/transfer/1'
const BYTES = 8 << 20
const CHUNK = 64 << 10

// Has `peer` answer whoever sends it something: with the digest of what came, the digest of what follows, and that.
export async function answerTransfers (peer) {
  await peer.handle(PROTOCOL, async (stream) => {
    try {
      const came = await readAll(stream)
      const mine = randomBytes(BYTES)
      await writeAll(stream, Buffer.concat([digest(came), digest(mine), mine]))
    } catch (error) {
      stream.abort(error)
    }
  })
}

// Moves that many bytes each way over `connection`. Only circuits without limits take this: on one with limits js-libp2p
// opens no stream unless both sides say `runOnLimitedConnection: true`.
export async function transfer (connection) {
  const stream = await connection.newStream(PROTOCOL, { signal: inTime() })
  const mine = randomBytes(BYTES)
  const [, answer] = await Promise.all([writeAll(stream, mine), readAll(stream)])
  const [cameThere, sent, came] = [answer.subarray(0, 32), answer.subarray(32, 64), answer.subarray(64)]
  assert.deepEqual(cameThere, digest(mine), 'what was sent came as it was')
  assert.equal(came.length, BYTES, 'all that was answered came')
  assert.deepEqual(digest(came), sent, 'what was answered came as it was')
}

const digest = (bytes) => createHash('sha256').update(bytes).digest()

async function writeAll (stream, bytes) {
  for (let at = 0; at < bytes.length; at += CHUNK) {
    if (!stream.send(bytes.subarray(at, at + CHUNK))) await stream.onDrain({ signal: inTime() })
  }
  await stream.close({ signal: inTime() })
}

async function readAll (stream) {
  const parts = []
  for await (const part of stream) parts.push(part.subarray())
  return Buffer.concat(parts)
}
