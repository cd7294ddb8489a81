-- In front of state.lua and release.lua, for what is common and needs no look at all of the state: ends an exclusive hold that nobody
-- waits behind, or hands it to a first waiter that wants it alone, lives and listens, while no 1.1.2 process is due a chance. Half the
-- server's time goes into reading the state; release.lua does the rest. The waiter behind that is the first then, and is not told: it learns so
-- with its next renewal, within a third of its ttl, and before the lock can run out if that is not shorter.
--
-- KEYS, ARGV and the answer as in release.lua

do
    local mine = EXCLUSIVE .. ARGV[1] .. ' '
    if string.sub(call('GET', MAIN) or '', 1, #mine) == mine then
        local heir, second = unpack(call('ZRANGE', QUEUE, 0, 1))
        if not heir then
            call('DEL', MAIN, TURNS)
            return 1
        end
        local mode, fenced, ttl, channel, asked, info = string.match(call('HGET', INFO, heir) or '', ENTRY)
        local due, interval = string.match(call('GET', TURNS) or '', '^%d+ (%d+) (%d+)')
        local _, _, renews = string.match(second and call('HGET', INFO, second) or '', ENTRY)
        if mode == 'x' and due and tonumber(renews or '0') <= 3 * ttl then
            local micros = read_clock()
            local now = math.floor(micros / 1000)
            if now < tonumber(due) and tonumber(due) <= now + interval and now < tonumber(call('ZSCORE', BEATS, heir) or '0') then
                local token = mint(fenced, micros)
                if call('PUBLISH', channel, heir .. ' ' .. token .. ' ' .. asked) > 0 then
                    call('ZREM', QUEUE, heir)
                    call('ZREM', BEATS, heir)
                    call('HDEL', INFO, heir)
                    hold(heir, token, ttl, info)
                    remember(token)
                    return 1
                end
            end
        end
    end
end
