import { type ConsoleConfig, createRoomwire } from '@roomwire/sdk'
import { RoomwireProvider } from '@roomwire/sdk/react'
import { useCallback, useEffect, useMemo, useState } from 'react'
import { loadConsoleConfig } from './console-config.js'
import { Mark } from './icons.js'
import { ProblemNote } from './problem-note.js'
import { RoomsPage } from './rooms-page.js'
import { loadSession, type Session, saveSession, signedOf, tabStorage } from './session.js'
import { SignIn } from './sign-in.js'

export function App() {
  const [config, setConfig] = useState<ConsoleConfig | null>(null)
  const [problem, setProblem] = useState<unknown>(null)
  const [attempt, setAttempt] = useState(0)

  // biome-ignore lint/correctness/useExhaustiveDependencies: a new attempt loads the configuration again
  useEffect(() => {
    const end = new AbortController()
    loadConsoleConfig(end.signal).then(setConfig, error => {
      if (!end.signal.aborted) setProblem(error instanceof Error ? error.message : error)
    })
    return () => end.abort()
  }, [attempt])

  function retry() {
    setProblem(null)
    setAttempt(attempt + 1)
  }

  if (config) return <Console config={config} />
  return (
    <main className="sign-in">
      <div className="sheet">
        <Mark />
        <h1>Roomwire</h1>
        {problem === null ? (
          <p className="lead">Looking for the hub…</p>
        ) : (
          <>
            <ProblemNote problem={problem} />
            <button type="button" className="primary" onClick={retry}>
              Try again
            </button>
          </>
        )}
      </div>
    </main>
  )
}

function Console({ config }: { readonly config: ConsoleConfig }) {
  const [session, setSession] = useState(loadSession)
  const [notice, setNotice] = useState<string | null>(null)

  const enter = useCallback((next: Session | null, why: string | null = null) => {
    saveSession(next)
    setSession(next)
    setNotice(why)
  }, [])
  const signed = useMemo(
    () => session && signedOf(config, session, why => enter(null, why)),
    [config, session, enter],
  )
  const roomwire = useMemo(() => {
    const url = window.location.origin
    const persist = tabStorage()
    return signed && createRoomwire({ url, getToken: signed.getToken, ...(persist && { persist }) })
  }, [signed])

  if (!signed || !roomwire) return <SignIn config={config} notice={notice} onSignIn={next => enter(next)} />
  return (
    <RoomwireProvider roomwire={roomwire}>
      <RoomsPage signed={signed} onSignOut={() => enter(null)} />
    </RoomwireProvider>
  )
}
