// Whoever dials a peer that has no place is told so, and not kept waiting.

import assert from 'node:assert/strict'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { startPeer, through } from '../peer.js'
import { inTime } from '../until.js'

// A refusal is an answer: it comes long before js-libp2p gives up on a dial, which is after 10 s.
const PROMPT_MS = 3_000

export async function nobodyWithoutPlaceIsReached ({ relays }) {
  const source = await startPeer()
  const nobody = peerIdFromPrivateKey(await generateKeyPair('Ed25519'))
  for (const relay of relays) {
    await source.dial(relay.tcp)
    const dialled = source.dial(through(relay.tcp, nobody), { signal: inTime(PROMPT_MS) })
    await assert.rejects(dialled, (error) => {
      const told = [error, ...(error.errors ?? [])].map(({ message }) => message).join('; ')
      assert.match(told, /status NO_RESERVATION/)
      return true
    })
  }
  await source.stop()
}
