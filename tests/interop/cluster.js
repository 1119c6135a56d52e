// Two Waystations that are one cluster, on free ports of loopback.

import { randomBytes } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Relay } from './relay.js'
import { until } from './until.js'

const LISTEN = '/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/tcp/0/ws'

export class Cluster {
  static async start (binary) {
    const cluster = new Cluster()
    cluster.folder = await mkdtemp(join(tmpdir(), 'waystation-interop-'))
    const secret = randomBytes(32).toString('base64')
    const seed = `127.0.0.1:${await freeUdpPort()}`
    cluster.relays = [1, 2].map((number) => new Relay(`node-${number}`, binary, {
      RELAY_NODE_ID: `node-${number}`,
      RELAY_DATA_DIR: join(cluster.folder, `${number}`),
      RELAY_CLUSTER_SECRET: secret,
      RELAY_CLUSTER_SEEDS: seed,
      RELAY_GOSSIP_ADDR: number === 1 ? seed : '127.0.0.1:0',
      RELAY_GRPC_ADDR: '127.0.0.1:0',
      RELAY_ADMIN_ADDR: '127.0.0.1:0',
      RELAY_LISTEN_ADDR: '127.0.0.1:0',
      RELAY_P2P_LISTEN: LISTEN,
      RELAY_DRAIN_TIMEOUT_SECS: '10',
      RELAY_LOG_LEVEL: 'info,waystation::p2p=debug'
    }))
    return cluster
  }

  // Waits until both serve and are linked to each other.
  async ready () {
    for (const relay of this.relays) await relay.ready()
    for (const relay of this.relays) {
      await until(`${relay.name} is linked to the other`, async () => await relay.figure('waystation_links_up') === 1)
    }
  }

  // What they have logged, for whoever looks for a cause.
  logs () {
    return (this.relays ?? []).flatMap(({ name, lines }) => [`--- ${name}`, ...lines]).join('\n')
  }

  // Kills what still runs; may be called at any time, and does not wait.
  kill () {
    for (const relay of this.relays ?? []) relay.kill()
  }

  // The same, and leaves nothing behind.
  async end () {
    this.kill()
    await Promise.all((this.relays ?? []).map((relay) => relay.ended))
    if (this.folder) await rm(this.folder, { recursive: true, force: true })
  }
}

// The seed must be known before the node that it names runs.
async function freeUdpPort () {
  const socket = createSocket('udp4')
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const { port } = socket.address()
  await new Promise((resolve) => socket.close(resolve))
  return port
}
