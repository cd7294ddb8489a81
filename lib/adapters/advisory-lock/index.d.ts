/**
 * What the package advisory-lock does, in the shape of its version 1: PostgreSQL's session-level advisory locks.
 *
 * ```js
 * import advisoryLock from "ipc-mutex/advisory-lock"
 *
 * const { withLock, tryLock, unlock } = advisoryLock("postgres://user:password@db.example/app")("nightly-report")
 *
 * await withLock(async () => {
 *     // nobody else is here
 * })
 * if (await tryLock())
 *     try { work() } finally { await unlock() }
 * ```
 *
 * @param connectionString a PostgreSQL connection URI (`postgres://...`, `postgresql://...`) or a string of `name=value`
 *   pairs; the `PG*` environment variables fill what is missing. It is read at once: `ERR_INVALID_URL` is thrown, not rejected.
 * @returns makes the mutex object of a lock. Nothing connects before the first call of one of its functions.
 */
declare function advisoryLock (connectionString?: string): advisoryLock.CreateMutex

declare namespace advisoryLock {
    /** A name, or the two signed 32-bit integers of `pg_advisory_lock(int4, int4)` themselves. */
    export type LockName = string | readonly [ number, number ]

    /** Makes the mutex object of one lock. All that one of these makes is one owner, a PostgreSQL session. */
    export interface CreateMutex {
        (lockName: LockName): AdvisoryMutex
        readonly client: {
            /** Gives back everything that the session holds. */
            end (): Promise<void>
        }
    }

    /**
     * Functions, not methods: they may be destructured. All reject with a `MutexError`: `ERR_CONNECT`, `ERR_AUTH`, `ERR_TLS` or
     * `ERR_SERVER` if the server cannot be used, `ERR_LOCK_LOST` if the connection that held the lock has ended; a loss that
     * nobody was waiting for is told by the next call of any function, once.
     *
     * What the object holds it may take again at once, and must then give back as often; a shared lock may also be
     * taken while the object holds the exclusive one. The exclusive lock waits for shared holds, also for the object's own.
     */
    export interface AdvisoryMutex {
        /**
         * Waits for the exclusive lock, runs `fn` and gives the lock back, also when `fn` throws. If the lock is lost meanwhile it
         * rejects at once with `ERR_LOCK_LOST`, whatever `fn` still does.
         * @returns what `fn` resolves to
         */
        withLock<T = undefined> (fn?: () => T | Promise<T>): Promise<T>
        /** Waits for the exclusive lock. */
        lock (): Promise<void>
        /** Takes the exclusive lock if that is possible at once. @returns whether it was */
        tryLock (): Promise<boolean>
        /** Gives the exclusive lock back. @returns false if the object did not hold it, which is no error */
        unlock (): Promise<boolean>
        /** As `withLock`, with a shared lock. */
        withLockShared<T = undefined> (fn?: () => T | Promise<T>): Promise<T>
        /** Waits for a shared lock: any number of owners may have it, but none the exclusive one. */
        lockShared (): Promise<void>
        /** Takes a shared lock if that is possible at once. @returns whether it was */
        tryLockShared (): Promise<boolean>
        /** Gives a shared lock back. @returns false if the object did not hold one, which is no error */
        unlockShared (): Promise<boolean>
    }

    /**
     * The two integers that stand for a name: the first and second four bytes of its SHA-256, little-endian.
     * `strToKey("test-lock")` is `[ -107789403, -1898803861 ]`.
     */
    export function strToKey (name: string): [ number, number ]

    /**
     * The URL of a `Mutex` for the same lock, for those who want what that class offers beyond these functions: fencing tokens,
     * time limits, who holds the lock. It contains the password.
     * @throws MutexError of code `ERR_INVALID_URL`
     */
    export function mutexUrl (connectionString: string, lockName: LockName): string

    export { advisoryLock as default }
}

export = advisoryLock
