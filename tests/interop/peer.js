// A stock js-libp2p peer, as an application would make it.

import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { webSockets } from '@libp2p/websockets'
import { createLibp2p } from 'libp2p'

// All that were started, to be stopped at the end.
const started = []

// A peer that listens at `listen` and offers `security`, the first one first. Its key comes with it as `key`.
export async function startPeer ({ listen = [], security = [noise(), tls()] } = {}) {
  const key = await generateKeyPair('Ed25519')
  const peer = await createLibp2p({
    privateKey: key,
    addresses: { listen: listen.map(String) },
    transports: [tcp(), webSockets(), circuitRelayTransport()],
    connectionEncrypters: security,
    streamMuxers: [yamux()],
    services: { identify: identify(), ping: ping() }
  })
  started.push(peer)
  return Object.assign(peer, { key })
}

// The address at which `relay` is to give a peer a place.
export const placeAt = (relay) => relay.encapsulate('/p2p-circuit')

// Where `peer` is dialled through `relay`.
export const through = (relay, peer) => relay.encapsulate(`/p2p-circuit/p2p/${peer.peerId ?? peer}`)

// Whether `peer` says that it is reached through the relay of that id.
export const isReachedThrough = (peer, relayId) =>
  peer.getMultiaddrs().some((address) => address.toString().includes(`/p2p/${relayId}/p2p-circuit`))

export async function stopPeers () {
  await Promise.allSettled(started.splice(0).map((peer) => peer.stop()))
}
