import type { ConsoleConfig } from '@roomwire/sdk'
import { type FormEvent, useState } from 'react'
import { Avatar } from './avatar.js'
import { Mark } from './icons.js'
import { people } from './people.js'
import { ProblemNote } from './problem-note.js'
import { readClaims } from './rights.js'
import { askIssuer, type Session, wordsOfExpiry } from './session.js'

interface SignInProps {
  readonly config: ConsoleConfig
  /** Why the person has to sign in again. */
  readonly notice: string | null
  readonly onSignIn: (session: Session) => void
}

export function SignIn({ config, notice, onSignIn }: SignInProps) {
  return (
    <main className="sign-in">
      <div className="sheet">
        <Mark />
        <h1>Roomwire</h1>
        <p className="lead">Your Discord voice rooms, live on a page.</p>
        {notice !== null && <p className="note">{notice}</p>}
        {config.signIn.kind === 'demo' ? (
          <ChoosePerson issuerUrl={config.signIn.issuerUrl} onSignIn={onSignIn} />
        ) : (
          <PasteToken onSignIn={onSignIn} />
        )}
      </div>
    </main>
  )
}

interface ChoosePersonProps {
  readonly issuerUrl: string
  readonly onSignIn: (session: Session) => void
}

function ChoosePerson({ issuerUrl, onSignIn }: ChoosePersonProps) {
  const [busy, setBusy] = useState<string | null>(null)
  const [problem, setProblem] = useState<unknown>(null)

  async function choose(sub: string, scope: string) {
    setBusy(sub)
    setProblem(null)
    try {
      // Asked here once, so that a missing issuer is reported here.
      await askIssuer(issuerUrl, sub, scope)
      onSignIn({ kind: 'demo', sub })
    } catch (error) {
      setProblem(error instanceof Error ? error.message : error)
      setBusy(null)
    }
  }

  return (
    <>
      <h2 className="label">Look around as</h2>
      <ul className="people">
        {people.map(({ sub, name, may, scope }) => (
          <li key={sub}>
            <button
              type="button"
              className="person"
              data-testid={`sign-in-${sub}`}
              disabled={busy !== null}
              onClick={() => void choose(sub, scope)}
            >
              <Avatar id={sub} name={name} />
              <span className="person-text">
                <strong>{name}</strong>
                <span>{may}</span>
              </span>
            </button>
          </li>
        ))}
      </ul>
      {problem !== null && <ProblemNote problem={problem} />}
    </>
  )
}

function PasteToken({ onSignIn }: { readonly onSignIn: (session: Session) => void }) {
  const [token, setToken] = useState('')
  const [problem, setProblem] = useState<unknown>(null)

  function submit(event: FormEvent) {
    event.preventDefault()
    const trimmed = token.trim()
    const claims = readClaims(trimmed)
    const problem = claims ? wordsOfExpiry(claims, Date.now()) : 'This is not a JWT. It begins with “eyJ”.'
    if (problem === null) onSignIn({ kind: 'token', token: trimmed })
    else setProblem(problem)
  }

  return (
    <form className="paste" onSubmit={submit}>
      <label className="field">
        <span className="label">Access token</span>
        <textarea
          data-testid="token"
          value={token}
          onChange={event => setToken(event.target.value)}
          placeholder="eyJ…"
          rows={5}
          spellCheck={false}
          autoComplete="off"
          required
        />
        <span className="hint">A JWT of your app's issuer. It stays in this tab.</span>
      </label>
      {problem !== null && <ProblemNote problem={problem} />}
      <button type="submit" className="primary" data-testid="sign-in-token">
        Sign in
      </button>
    </form>
  )
}
