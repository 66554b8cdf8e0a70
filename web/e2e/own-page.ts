/** Servers and programs of somebody else, beside the demo: pages of their own origin, and a client of their own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import { connect, createServer as createTcpServer, type Socket } from 'node:net'
import { fileURLToPath } from 'node:url'

/** A path of the checkout. */
export const inCheckout = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))

/** The port whose origin the demo was started with: `WEB_ORIGIN=http://localhost:<port>`. */
export const ownPort = Number(process.env.OWN_PAGE_PORT)
export const ownOrigin = `http://localhost:${ownPort}`

/** The fenced blocks of a language in a document, in order. */
export function blocks(document: string, language: string): string[] {
  const text = readFileSync(inCheckout(document), 'utf8')
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, 'gms'))].map(
    match => match[1] ?? '',
  )
}

export interface Ended {
  end(): Promise<void>
}

/** Vite's dev server of a project, as `npm run dev` starts it; or the server of what `vite build` made. */
export async function vite(project: string, command: 'dev' | 'preview'): Promise<Ended> {
  const vite = new Program(
    'node',
    ['node_modules/vite/bin/vite.js', command, '--port', String(ownPort), '--strictPort'],
    project,
  )
  await vite.says(/Local:/)
  return vite
}

/** One file at `/`, on the port whose origin the demo allows. */
export async function serveFile(path: string): Promise<Ended> {
  const answer: RequestListener = (_, response) => {
    response.setHeader('content-type', 'text/html; charset=utf-8').end(readFileSync(inCheckout(path)))
  }
  const server = createServer(answer)
  await new Promise<void>(resolve => server.listen(ownPort, 'localhost', resolve))
  return {
    end: async () => {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
}

/** A program that a test listens to. */
export class Program {
  private readonly child: ChildProcess
  private said = ''
  private read = 0

  constructor(command: string, args: string[], folder: string) {
    this.child = spawn(command, args, {
      cwd: inCheckout(folder),
      env: { ...process.env, NO_COLOR: '1', FORCE_COLOR: '0' },
    })
    const receive = (text: Buffer) => {
      this.said += text
    }
    this.child.stdout?.on('data', receive)
    this.child.stderr?.on('data', receive)
  }

  /** Waits for what the program says next. */
  async says(what: RegExp, deadlineMs = 30_000): Promise<void> {
    for (const end = Date.now() + deadlineMs; ; await new Promise(resolve => setTimeout(resolve, 25))) {
      const found = what.exec(this.said.slice(this.read))
      if (found) {
        this.read += found.index + found[0].length
        return
      }
      if (Date.now() > end || this.child.exitCode !== null)
        throw new Error(`it did not say ${what}, but: ${this.said.slice(this.read)}`)
    }
  }

  async end(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const ended = new Promise(resolve => this.child.once('exit', resolve))
    this.child.kill('SIGTERM')
    await ended
  }
}

/** A cable to the hub, which a test pulls out. */
export async function cable(toPort: number): Promise<Ended & { port: number; cut(): void; plug(): void }> {
  const sockets = new Set<Socket>()
  let plugged = true
  const server = createTcpServer(near => {
    if (!plugged) {
      near.destroy()
      return
    }
    const far = connect(toPort, '127.0.0.1')
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one)
      one.pipe(other)
      one.on('error', () => other.destroy())
      one.on('close', () => {
        sockets.delete(one)
        other.destroy()
      })
    }
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const cut = () => {
    plugged = false
    for (const socket of sockets) socket.destroy()
  }
  return {
    port: typeof address === 'object' && address ? address.port : 0,
    cut,
    plug: () => {
      plugged = true
    },
    end: async () => {
      cut()
      await new Promise(resolve => server.close(resolve))
    },
  }
}
