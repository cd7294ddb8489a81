/**
 * What the package advisory-lock does, in the shape of its version 2: as `ipc-mutex/advisory-lock`, but taking a lock gives
 * the function that gives it back, and each hold is independent of all others, also of those of the same object.
 *
 * ```js
 * import advisoryLock from "ipc-mutex/advisory-lock/v2"
 *
 * const mutex = advisoryLock("postgres://user:password@db.example/app")("nightly-report")
 * const unlock = await mutex.tryLock()
 * if (unlock)
 *     try { work() } finally { await unlock() }
 * ```
 *
 * @param connectionString as for `ipc-mutex/advisory-lock`
 */
declare function advisoryLock (connectionString: string): advisoryLock.CreateMutex

declare namespace advisoryLock {
    /** A name, or the two signed 32-bit integers of `pg_advisory_lock(int4, int4)` themselves. */
    export type LockName = string | readonly [ number, number ]

    /** Makes the mutex object of one lock. */
    export type CreateMutex = (lockName: LockName) => AdvisoryMutex

    /**
     * Gives one hold back. Further calls do nothing.
     * Rejects with a `MutexError` of code `ERR_LOCK_LOST` if the hold had ended before.
     */
    export type UnlockFunction = () => Promise<void>

    /**
     * Functions, not methods: they may be destructured. All reject with a `MutexError`: `ERR_CONNECT`, `ERR_AUTH`, `ERR_TLS` or
     * `ERR_SERVER` if the server cannot be used.
     */
    export interface AdvisoryMutex {
        /**
         * Waits for the exclusive lock, runs `fn` and gives the lock back, also when `fn` throws. If the lock is lost meanwhile it
         * rejects at once with `ERR_LOCK_LOST`, whatever `fn` still does.
         * @returns what `fn` resolves to
         */
        withLock<T = undefined> (fn?: () => T | Promise<T>): Promise<T>
        /** Waits for the exclusive lock. */
        lock (): Promise<UnlockFunction>
        /** Takes the exclusive lock if that is possible at once; else resolves to `undefined`. */
        tryLock (): Promise<UnlockFunction | undefined>
        /** Gives back the object's oldest exclusive hold, if it has any. */
        unlock (): Promise<void>
        /** As `withLock`, with a shared lock. */
        withLockShared<T = undefined> (fn?: () => T | Promise<T>): Promise<T>
        /** Waits for a shared lock: any number may have it, but nobody the exclusive one. */
        lockShared (): Promise<UnlockFunction>
        /** Takes a shared lock if that is possible at once; else resolves to `undefined`. */
        tryLockShared (): Promise<UnlockFunction | undefined>
        /** Gives back the object's oldest shared hold, if it has any. */
        unlockShared (): Promise<void>
    }

    /** The two integers that stand for a name: the first and second four bytes of its SHA-256, little-endian. */
    export function strToKey (name: string): [ number, number ]

    /** The URL of a `Mutex` for the same lock. It contains the password. */
    export function mutexUrl (connectionString: string, lockName: LockName): string

    export { advisoryLock as default }
}

export = advisoryLock
