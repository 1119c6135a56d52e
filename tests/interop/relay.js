// One Waystation, as operators run it: the binary, in a process of its own.

import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { multiaddr } from '@multiformats/multiaddr'
import { until, within } from './until.js'

// The last lines of its log that are shown when a check fails.
const MOST_LINES = 200

export class Relay {
  // Starts `binary` with `settings` as its whole environment; `name` is for messages.
  constructor (name, binary, settings) {
    this.name = name
    this.lines = []
    this.addresses = []
    this.process = spawn(binary, ['serve'], { env: settings, stdio: ['ignore', 'pipe', 'pipe'] })
    // Once all that it has logged is read.
    this.ended = new Promise((resolve) => {
      this.process.once('close', (code, signal) => resolve(signal ?? code))
      this.process.once('error', (error) => resolve(error.message))
    })
    createInterface(this.process.stderr).on('line', (line) => this.#keep(line))
    this.serves = new Promise((resolve) => {
      createInterface(this.process.stdout).on('line', (line) => {
        this.#keep(line)
        if (this.#says(line)) resolve()
      })
    })
  }

  // Waits until it serves, and then until it takes clients.
  async ready () {
    const gone = this.ended.then((how) => { throw new Error(`${this.name} ended before it served: ${how}`) })
    await within(`${this.name} serves`, Promise.race([this.serves, gone]))
    await until(`${this.name} is ready`, async () => (await fetch(`${this.http}/ready`)).ok)
  }

  // The figure of that name that has no labels.
  async figure (name) {
    const text = await (await fetch(`${this.http}/metrics`)).text()
    const [, value] = text.match(new RegExp(`^${name} (\\S+)$`, 'm')) ?? []
    return Number(value)
  }

  // Where peers reach it over plain TCP, and over WebSocket.
  get tcp () { return this.addresses.find((address) => !isWebSocket(address)) }
  get websocket () { return this.addresses.find(isWebSocket) }

  // Its peer id, as text.
  get id () { return this.tcp.getComponents().at(-1).value }

  // Asks it to leave service.
  drain () { this.process.kill('SIGTERM') }

  kill () { this.process.kill('SIGKILL') }

  // Reads where it is reached from what it prints; whether that was all.
  #says (line) {
    const [, http] = line.match(/^DCP Relay running on (\S+)/) ?? []
    const [, address] = line.match(/^relay address: (\S+)/) ?? []
    if (http) this.http = `http://${http}`
    if (address) this.addresses.push(multiaddr(address))
    return line.startsWith('Press Ctrl+C')
  }

  #keep (line) {
    this.lines.push(line)
    if (this.lines.length > MOST_LINES) this.lines.shift()
  }
}

const isWebSocket = (address) => address.getComponents().some(({ name }) => name === 'ws')
