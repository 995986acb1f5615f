-- Every function, as schema/sql/functions had it at this revision.

-- What begin_context() signs: user, session, backend and transaction (P2).
--
-- The transaction's timestamp makes a replay in a later transaction worthless,
-- the backend's number one on another connection. Only the definer, who alone
-- reads the key, may call it.
set local role pandom_definer;

create or replace function public.context_signature(
    secret bytea, user_uuid uuid, session_id text
)
returns text
language sql
stable
parallel safe
set search_path = ''
return encode(
    public.hmac(
        uuid_send(user_uuid)
        || int4send(pg_backend_pid())
        || timestamptz_send(transaction_timestamp())
        || convert_to(session_id, 'UTF8'),
        secret,
        'sha256'
    ),
    'hex'
);

comment on function public.context_signature(bytea, uuid, text) is
'HMAC over user, backend, transaction timestamp and session; the key is the caller''s. P2';

-- How a token is stored: its SHA-256 in hexadecimal (T4, P3).
--
-- Tokens are 256 random bits, so a plain digest cannot be searched backwards.
set local role pandom_definer;

create or replace function public.token_digest(token text)
returns text
language sql
immutable
strict
parallel safe
set search_path = ''
return encode(sha256(convert_to(token, 'UTF8')), 'hex');

comment on function public.token_digest(text) is
'SHA-256 of a token in hexadecimal; the only form in which a token is stored. T4';

-- A fresh token: 256 random bits in base64url (P3).
--
-- Not hexadecimal, so that the checks on stored digests refuse a token in clear.
set local role pandom_definer;

create or replace function public.new_token()
returns text
language sql
volatile
set search_path = ''
return translate(encode(public.gen_random_bytes(32), 'base64'), '+/=', '-_');

comment on function public.new_token() is
'256 random bits in base64url, handed out once and stored as a digest. P3';

-- The client's address as the application stated it, or null (T3, T4).
--
-- A malformed value becomes null: a proxy's odd header must not stop a sign-in.
set local role pandom_definer;

create or replace function public.client_address()
returns inet
language sql
stable
parallel safe
set search_path = ''
return case
    when pg_input_is_valid(current_setting('app.client_ip', true), 'inet')
        then nullif(current_setting('app.client_ip', true), '')::inet
end;

comment on function public.client_address() is
'The client''s address from app.client_ip; null when unset or malformed. T3';

-- The client's user agent as the application stated it, cut to 512 characters (T3, T4).
set local role pandom_definer;

create or replace function public.client_agent()
returns text
language sql
stable
parallel safe
set search_path = ''
return nullif(left(current_setting('app.user_agent', true), 512), '');

comment on function public.client_agent() is
'The client''s user agent from app.user_agent, cut to 512 characters. T3';

-- A user's bcrypt hash, decrypted where it is stored encrypted (P1).
--
-- Error: a hash that is encrypted and no key, or the wrong one.
set local role pandom_definer;

create or replace function public.stored_password_hash(account public.auth_users, hash_key text)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
    if account.password_hash_encrypted is null then
        return account.password_hash;
    end if;
    if coalesce(hash_key, '') = '' then
        raise exception 'password hashes are encrypted: pass hash_key'
            using errcode = 'invalid_parameter_value';
    end if;
    return public.pgp_sym_decrypt(account.password_hash_encrypted, hash_key);
exception
    when external_routine_invocation_exception then
        raise exception 'password hashes are encrypted with another hash_key'
            using errcode = 'invalid_parameter_value';
end
$$;

comment on function public.stored_password_hash(public.auth_users, text) is
'A user''s bcrypt hash, decrypted where it is stored encrypted. P1';

-- Writes one event for each changed row of the account tables (P4).
--
-- Runs once per statement on its transition tables: for a thousand rows that
-- costs about half of a trigger per row. The difference is spelt out column by
-- column; walking over jsonb_each costs three times as much. Secrets appear as
-- "redacted", never as a value, so that the trail never holds a hash or a token.
set local role pandom_trail;

create or replace function public.audit_trigger_function()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    actor constant uuid := public.current_user_id();
    address constant inet := case
        when pg_input_is_valid(current_setting('app.client_ip', true), 'inet')
            then current_setting('app.client_ip', true)::inet
    end;
    agent constant text := nullif(left(current_setting('app.user_agent', true), 512), '');
    origin constant jsonb := jsonb_build_object(
        'table', tg_table_name, 'session_user', session_user
    );
begin
    if tg_table_schema <> 'public' then
        raise exception 'the audit trigger serves tables of schema public only';
    end if;

    if tg_op = 'TRUNCATE' then
        insert into public.audit_logs
        (user_uuid, event_type, details, ip_address, user_agent, severity)
        values (actor, tg_op, origin, address, agent, 'critical');

    elsif tg_table_name = 'auth_users' and tg_op = 'INSERT' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, origin || jsonb_build_object(
            'subject', n.uuid,
            'new', jsonb_build_object(
                'email', n.email,
                'role', n.role,
                'is_active', n.is_active,
                'is_verified', n.is_verified,
                'is_configured', n.is_configured,
                'profile_uuid', n.profile_uuid
            )
        ), address, agent
        from new_rows as n;

    elsif tg_table_name = 'auth_users' and tg_op = 'UPDATE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, origin || jsonb_build_object(
            'subject', n.uuid,
            'changed', jsonb_strip_nulls(jsonb_build_object(
                'email', case when o.email is distinct from n.email
                    then jsonb_build_array(o.email, n.email) end,
                'password_hash', case when o.password_hash is distinct from n.password_hash
                    or o.password_hash_encrypted is distinct from n.password_hash_encrypted
                    then '"redacted"'::jsonb end,
                'role', case when o.role is distinct from n.role
                    then jsonb_build_array(o.role, n.role) end,
                'is_active', case when o.is_active is distinct from n.is_active
                    then jsonb_build_array(o.is_active, n.is_active) end,
                'is_verified', case when o.is_verified is distinct from n.is_verified
                    then jsonb_build_array(o.is_verified, n.is_verified) end,
                'is_configured', case when o.is_configured is distinct from n.is_configured
                    then jsonb_build_array(o.is_configured, n.is_configured) end,
                'verification_token',
                case when o.verification_token is distinct from n.verification_token
                    then '"redacted"'::jsonb end,
                'reset_token', case when o.reset_token is distinct from n.reset_token
                    then '"redacted"'::jsonb end,
                'refresh_token', case when o.refresh_token is distinct from n.refresh_token
                    then '"redacted"'::jsonb end,
                'last_login_at', case when o.last_login_at is distinct from n.last_login_at
                    then jsonb_build_array(o.last_login_at, n.last_login_at) end,
                'profile_uuid', case when o.profile_uuid is distinct from n.profile_uuid
                    then jsonb_build_array(o.profile_uuid, n.profile_uuid) end
            ))
        ), address, agent
        from new_rows as n
        inner join old_rows as o on n.uuid = o.uuid;

    elsif tg_table_name = 'auth_users' and tg_op = 'DELETE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, origin || jsonb_build_object(
            'subject', o.uuid,
            'old', jsonb_build_object(
                'email', o.email, 'role', o.role, 'profile_uuid', o.profile_uuid
            )
        ), address, agent
        from old_rows as o;

    elsif tg_table_name = 'user_profiles' and tg_op = 'INSERT' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, origin || jsonb_build_object(
            'subject', n.uuid,
            'new', jsonb_build_object('tags', n.tags, 'metadata', n.metadata)
        ), address, agent
        from new_rows as n;

    elsif tg_table_name = 'user_profiles' and tg_op = 'UPDATE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, origin || jsonb_build_object(
            'subject', n.uuid,
            'changed', case when o.tags is distinct from n.tags
                then jsonb_build_object('tags', jsonb_build_array(o.tags, n.tags))
                else '{}'::jsonb end
            || case when o.metadata is distinct from n.metadata
                then jsonb_build_object('metadata', jsonb_build_array(o.metadata, n.metadata))
                else '{}'::jsonb end
        ), address, agent
        from new_rows as n
        inner join old_rows as o on n.uuid = o.uuid;

    elsif tg_table_name = 'user_profiles' and tg_op = 'DELETE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, origin || jsonb_build_object(
            'subject', o.uuid,
            'old', jsonb_build_object('tags', o.tags, 'metadata', o.metadata)
        ), address, agent
        from old_rows as o;

    elsif tg_table_name = 'sessions' and tg_op = 'INSERT' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, origin || jsonb_build_object(
            'subject', n.user_uuid,
            'new', jsonb_build_object('id', n.id, 'expires_at', n.expires_at)
        ), address, agent
        from new_rows as n;

    elsif tg_table_name = 'sessions' and tg_op = 'UPDATE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, origin || jsonb_build_object(
            'subject', n.user_uuid,
            'id', n.id,
            'changed', jsonb_strip_nulls(jsonb_build_object(
                'user_uuid', case when o.user_uuid is distinct from n.user_uuid
                    then jsonb_build_array(o.user_uuid, n.user_uuid) end,
                'token', case when o.token is distinct from n.token
                    then '"redacted"'::jsonb end,
                'expires_at', case when o.expires_at is distinct from n.expires_at
                    then jsonb_build_array(o.expires_at, n.expires_at) end
            ))
        ), address, agent
        from new_rows as n
        inner join old_rows as o on n.id = o.id;

    elsif tg_table_name = 'sessions' and tg_op = 'DELETE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, origin || jsonb_build_object(
            'subject', o.user_uuid,
            'old', jsonb_build_object('id', o.id, 'expires_at', o.expires_at)
        ), address, agent
        from old_rows as o;

    else
        raise exception 'the audit trigger does not know table %', tg_table_name;
    end if;
    return null;
end
$$;

comment on function public.audit_trigger_function() is
'Trigger: one event for each changed row, changed columns only, secrets redacted. P4';

-- Opens the transaction's context for the holder of a session token (P2).
--
-- Call it first in every transaction. It sets app.current_user_id and, signed, what
-- current_user_id() checks where contexts are enforced: user, session, backend and
-- transaction timestamp. Returns the user, or null when the token is unknown or
-- expired or its user inactive; that is recorded and sets no context.
set local role pandom_definer;

create or replace function public.begin_context(session_token text)
returns uuid
language plpgsql
security definer
set search_path = ''
as $$
declare
    opened record;
begin
    select s.user_uuid, s.id::text as session_id, k.secret into opened
    from public.sessions as s
    inner join public.auth_users as u on s.user_uuid = u.uuid
    cross join public.context_key as k
    where s.token = encode(sha256(convert_to(begin_context.session_token, 'UTF8')), 'hex')
        and s.expires_at > current_timestamp
        and u.is_active;
    if not found then
        perform set_config('app.current_user_id', '', true);
        perform set_config('app.context_signature', '', true);
        perform public.write_event(
            'security_logs', null, 'context_rejected', 'warning', '{}'
        );
        return null;
    end if;
    perform
        set_config('app.current_user_id', opened.user_uuid::text, true),
        set_config('app.session_id', opened.session_id, true),
        set_config(
            'app.context_signature',
            public.context_signature(opened.secret, opened.user_uuid, opened.session_id),
            true
        );
    return opened.user_uuid;
end
$$;

comment on function public.begin_context(text) is
'Opens the transaction''s context for the holder of a session token, signed. P2';

-- Hands outgoing messages, with their tokens in clear, to the mailer (P3).
--
-- A claimed message is hidden for five minutes; finish_message() removes it. One
-- that the mailer lost on the way appears again.
set local role pandom_definer;

create or replace function public.claim_messages(batch_size integer default 100)
returns table (id bigint, kind text, email text, token text, expires_at timestamptz)
language sql
security definer
set search_path = ''
begin atomic
    update public.outbox as o
    set claimed_until = current_timestamp + interval '5 minutes'
    where o.id in (
        select e.id
        from public.outbox as e
        where e.expires_at > current_timestamp
            and (e.claimed_until is null or e.claimed_until < current_timestamp)
        order by e.id
        limit claim_messages.batch_size
        for update skip locked
    )
    returning o.id, o.kind::text, o.email::text, o.token, o.expires_at;
end;

comment on function public.claim_messages(integer) is
'Hands outgoing messages with their tokens to the mailer. P3';

-- Sets a new password by a reset token (P3).
--
-- Returns whether the token was good. Ends all sessions of the user, verifies the
-- e-mail (its holder had the token) and forgives failed attempts.
set local role pandom_definer;

create or replace function public.complete_password_reset(
    token text, new_password text, hash_key text default null
)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
    account record;
begin
    select u.uuid, u.email into account
    from public.auth_users as u
    where u.reset_token = public.token_digest(complete_password_reset.token)
        and u.reset_token_expiry > current_timestamp
        and u.is_active
    for no key update;
    if not found then
        return false;
    end if;
    perform public.set_password(
        account.uuid, complete_password_reset.new_password, complete_password_reset.hash_key
    );
    update public.auth_users as u
    set is_verified = true, verification_token = null, verification_expires = null
    where u.uuid = account.uuid and not u.is_verified;
    delete from public.sign_in_attempts as a
    where a.email_digest = sha256(convert_to(lower(account.email), 'UTF8'));
    perform public.send_message('password_changed', account.email, null, interval '7 days');
    perform public.write_event(
        'security_logs', account.uuid, 'password_reset', 'warning', '{}'
    );
    return true;
end
$$;

comment on function public.complete_password_reset(text, text, text) is
'Sets a new password by a reset token; whether the token was good. P3';

-- Makes one month's partition of the trail, or returns null where it exists (T3).
--
-- It is made apart and attached, so that writers of other months do not wait for
-- more than a moment. Rows of that month in the default partition: none is made.
set local role pandom_trail;

create or replace function public.create_partition(log text, month timestamptz)
returns text
language plpgsql
set search_path = ''
as $$
declare
    name constant text := create_partition.log
    || to_char(create_partition.month at time zone 'UTC', '"_y"YYYY"m"MM');
    upper_bound constant timestamptz :=
    (create_partition.month at time zone 'UTC' + interval '1 month') at time zone 'UTC';
    strays boolean;
begin
    if to_regclass(format('public.%I', name)) is not null then
        return null;
    end if;
    execute format(
        'select exists (select from public.%I where timestamp >= $1 and timestamp < $2)',
        create_partition.log || '_default'
    ) into strays using create_partition.month, upper_bound;
    if strays then
        return null;
    end if;
    execute format(
        'create table public.%I (like public.%I including defaults including constraints)',
        name, create_partition.log
    );
    perform public.protect_partition(create_partition.log, name);
    execute format(
        'alter table public.%I attach partition public.%I for values from (%L) to (%L)',
        create_partition.log, name, create_partition.month, upper_bound
    );
    return name;
end
$$;

comment on function public.create_partition(text, timestamptz) is
'Makes one month''s partition of the trail; null where it exists. T3';

-- The profile of the current user; the policy of user_profiles asks it (P2).
set local role pandom_definer;

create or replace function public.current_profile_id()
returns uuid
language plpgsql
stable
parallel safe
security definer
set search_path = ''
as $$
begin
    return (
        select u.profile_uuid
        from public.auth_users as u
        where u.uuid = (select public.current_user_id())
    );
end
$$;

comment on function public.current_profile_id() is
'The profile of the current user, or null; the policy of user_profiles asks it. P2';

-- The user on whose behalf the transaction runs; every policy asks it (P2).
--
-- Returns null, which no policy matches, for: no context, an empty one (what an
-- unset value becomes after SET LOCAL), an unknown user, a deactivated one and,
-- where contexts are signed, a signature that is not of this transaction.
-- A malformed uuid is an error. Who may call: whoever a policy applies to.
-- Called as (select current_user_id()) in policies: once per query.
set local role pandom_definer;

create or replace function public.current_user_id()
returns uuid
language plpgsql
stable
parallel safe
security definer
set search_path = ''
as $$
declare
    claimed constant text := current_setting('app.current_user_id', true);
    claimed_uuid uuid;
    signing record;
begin
    if claimed is null or claimed = '' then
        return null;
    end if;
    claimed_uuid := claimed::uuid;
    select k.enforced, k.secret into signing
    from public.context_key as k
    where exists (
        select from public.auth_users as u
        where u.uuid = claimed_uuid and u.is_active
    );
    if not found then
        return null;
    end if;
    if signing.enforced
        and current_setting('app.context_signature', true) is distinct from
        public.context_signature(
            signing.secret, claimed_uuid, current_setting('app.session_id', true)
        )
    then
        return null;
    end if;
    return claimed_uuid;
end
$$;

comment on function public.current_user_id() is
'The user of the transaction''s context, or null; every policy asks it. P2';

-- Whether the current user is an active administrator (P2).
--
-- The policies of pandom_admin ask it, so that entering the role by SET LOCAL
-- ROLE gives nothing to anybody else, nor to a former administrator.
set local role pandom_definer;

create or replace function public.current_user_is_admin()
returns boolean
language plpgsql
stable
parallel safe
security definer
set search_path = ''
as $$
begin
    return exists (
        select
        from public.auth_users as u
        where u.uuid = (select public.current_user_id())
            and u.is_active
            and u.role = 'admin'
    );
end
$$;

comment on function public.current_user_is_admin() is
'Whether the current user is an active administrator; policies of pandom_admin ask it. P2';

-- Deletes what has expired: sessions, messages, e-mail changes, old attempts (O3).
--
-- At most batch_size rows of each kind, so that no lock lasts; the janitor repeats
-- until it returns 0. Returns the number of rows deleted.
set local role pandom_definer;

create or replace function public.delete_expired(batch_size integer default 1000)
returns bigint
language plpgsql
security definer
set search_path = ''
as $$
declare
    batch bigint;
    total bigint := 0;
begin
    delete from public.sessions as s
    where s.id in (
        select e.id
        from public.sessions as e
        where e.expires_at < current_timestamp
        order by e.expires_at
        limit batch_size
        for update skip locked
    );
    get diagnostics batch = row_count;
    total := total + batch;
    if batch > 0 then
        perform public.write_event(
            'audit_logs', null, 'sessions_expired', 'info', jsonb_build_object('rows', batch)
        );
    end if;
    delete from public.outbox as o
    where o.id in (
        select e.id from public.outbox as e where e.expires_at < current_timestamp
        limit batch_size
        for update skip locked
    );
    get diagnostics batch = row_count;
    total := total + batch;
    delete from public.email_changes as c where c.expires_at < current_timestamp;
    delete from public.sign_in_attempts as a
    where greatest(a.last_failed_at, a.last_succeeded_at) < current_timestamp - interval '30 days';
    return total;
end
$$;

comment on function public.delete_expired(integer) is
'Deletes expired sessions and messages in batches; for the janitor. O3';

-- Deletes a user's profile together with the user (C1).
set local role pandom_definer;

create or replace function public.delete_profile_of_user()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    delete from public.user_profiles as p
    where p.uuid = old.profile_uuid;
    return null;
end
$$;

comment on function public.delete_profile_of_user() is
'Trigger: deletes the profile of a deleted user. C1';

-- Makes the partitions of the trail for this month and the months ahead (T3, T5).
--
-- Bounds are months of UTC, whatever the session's time zone. A new partition gets
-- row security, FORCE, its policies and the dump login's SELECT here, because a
-- parent passes none of them on. Rows that fell into the default partition stay
-- there until drain_default(). Returns the names of the partitions made.
set local role pandom_trail;

create or replace function public.ensure_partitions(as_of timestamptz default current_timestamp)
returns setof text
language plpgsql
security definer
set search_path = ''
as $$
declare
    log record;
    month timestamptz;
    made text;
begin
    for log in
        select r.log, r.months_ahead from public.trail_retention as r order by r.log
    loop
        for month in
            select m.month
            from generate_series(
                date_trunc('month', as_of, 'UTC'),
                date_trunc('month', as_of, 'UTC') + make_interval(months => log.months_ahead),
                interval '1 month',
                'UTC'
            ) as m (month)
        loop
            made := public.create_partition(log.log, month);
            if made is not null then
                return next made;
            end if;
        end loop;
    end loop;
end
$$;

comment on function public.ensure_partitions(timestamptz) is
'Makes the trail''s partitions for this month and the months ahead. T3 T5';

-- Removes a message that the mailer has sent (P3).
set local role pandom_definer;

create or replace function public.finish_message(id bigint)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
begin
    delete from public.outbox as o where o.id = finish_message.id;
    return found;
end
$$;

comment on function public.finish_message(bigint) is
'Removes a message that the mailer has sent. P3';

-- A password's bcrypt hash as the two columns hold it (P1, P3).
--
-- Errors: a password shorter than 12 characters, or longer than the 72 bytes that
-- bcrypt looks at; encryption asked for and no key.
set local role pandom_definer;

create or replace function public.hash_password(
    password text, hash_key text, out clear text, out encrypted bytea
)
language plpgsql
set search_path = ''
as $$
declare
    rules record;
begin
    if coalesce(length(hash_password.password), 0) < 12
        or octet_length(hash_password.password) > 72
    then
        raise exception 'a password must have at least 12 characters and at most 72 bytes'
            using errcode = 'invalid_parameter_value';
    end if;
    select s.bcrypt_cost, s.encrypt_password_hash into strict rules
    from public.account_settings as s;
    clear := public.crypt(hash_password.password, public.gen_salt('bf', rules.bcrypt_cost));
    if rules.encrypt_password_hash then
        if coalesce(hash_password.hash_key, '') = '' then
            raise exception 'password hashes are encrypted: pass hash_key'
                using errcode = 'invalid_parameter_value';
        end if;
        encrypted := public.pgp_sym_encrypt(
            clear, hash_password.hash_key, 'cipher-algo=aes256, compress-algo=0'
        );
        clear := '*';
    end if;
end
$$;

comment on function public.hash_password(text, text) is
'A password''s bcrypt hash, encrypted where the setting says so. P1 P3';

-- The event types that only the database writes (P5).
--
-- The list is schema.access.EVENT_TYPES; a test compares the two. An application
-- that could record one of these would forge evidence.
set local role pandom_trail;

create or replace function public.is_reserved_event_type(event_type text)
returns boolean
language sql
immutable
strict
parallel safe
set search_path = ''
return lower(event_type) in (
    'insert', 'update', 'delete', 'truncate',
    'user_registered', 'user_verified', 'user_deactivated', 'user_reactivated', 'user_deleted',
    'login_succeeded', 'login_failed', 'login_throttled',
    'session_refreshed', 'session_ended', 'sessions_expired',
    'password_changed', 'password_reset_requested', 'password_reset',
    'email_change_requested', 'email_changed', 'role_changed',
    'context_rejected', 'context_key_rotated',
    'partition_created', 'partition_drained', 'partition_exported', 'partition_dropped',
    'retention_changed', 'trail_restored'
);

comment on function public.is_reserved_event_type(text) is
'Whether only the database may write this event type. P5';

-- Turns the prefixes $2b$ and $2y$ of bcrypt into $2a$ (P3).
--
-- The three name the same algorithm, but pgcrypto knows $2a$ only and silently
-- computes DES for the others. Applications that hash themselves write $2b$.
set local role pandom_owner;

create or replace function public.normalise_password_hash()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if new.password_hash ~ '^\$2[by]\$' then
        new.password_hash := '$2a$' || substr(new.password_hash, 5);
    end if;
    return new;
end
$$;

comment on function public.normalise_password_hash() is
'Trigger: writes bcrypt hashes in the form that pgcrypto verifies. P3';

-- Opens a session and a refresh token for a user (T4, P3).
--
-- Both tokens leave the database here, once, in clear; it keeps their digests.
set local role pandom_definer;

create or replace function public.open_session(
    user_uuid uuid,
    out session_token text,
    out session_expires_at timestamptz,
    out refresh_token text,
    out refresh_expires_at timestamptz
)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
    rules public.account_settings;
begin
    select s.* into strict rules from public.account_settings as s;
    session_token := public.new_token();
    session_expires_at := current_timestamp + rules.session_lifetime;
    refresh_token := public.new_token();
    refresh_expires_at := current_timestamp + rules.refresh_lifetime;
    insert into public.sessions (user_uuid, token, expires_at, ip_address, user_agent)
    values (
        open_session.user_uuid, public.token_digest(open_session.session_token),
        open_session.session_expires_at, public.client_address(), public.client_agent()
    );
    update public.auth_users as u
    set last_login_at = current_timestamp,
        refresh_token = public.token_digest(open_session.refresh_token),
        refresh_token_expires = open_session.refresh_expires_at
    where u.uuid = open_session.user_uuid;
end
$$;

comment on function public.open_session(uuid) is
'Opens a session and a refresh token; the tokens leave the database once. T4 P3';

-- Whether a password belongs to an account; an absent account costs the same (P3).
--
-- The work for an unknown e-mail is done on a dummy hash of the configured cost, so
-- that the time says nothing about who exists.
set local role pandom_definer;

create or replace function public.password_matches(
    account public.auth_users, password text, hash_key text
)
returns boolean
language plpgsql
set search_path = ''
as $$
declare
    stored text;
begin
    if account.uuid is null then
        perform public.crypt(
            coalesce(password_matches.password, ''),
            (
                select public.gen_salt('bf', s.bcrypt_cost)
                from public.account_settings as s
            )
        );
        return false;
    end if;
    stored := public.stored_password_hash(account, password_matches.hash_key);
    return coalesce(public.crypt(password_matches.password, stored) = stored, false);
end
$$;

comment on function public.password_matches(public.auth_users, text, text) is
'Whether a password belongs to an account; an absent account costs the same. P3';

-- Gives a partition row security, FORCE, policies, the dump login's SELECT and a
-- comment; a parent passes none of them on (P2).
set local role pandom_trail;

create or replace function public.protect_partition(log text, name text)
returns void
language plpgsql
set search_path = ''
as $$
begin
    execute format('alter table public.%I enable row level security', name);
    execute format('alter table public.%I force row level security', name);
    execute format(
        'create policy trail_maintenance on public.%I for all to pandom_trail '
        'using (true) with check (true)', name
    );
    execute format(
        'comment on policy trail_maintenance on public.%I is %L', name,
        'The trail''s owner is under FORCE too; nobody else reaches a partition directly. P2'
    );
    execute format('grant select on public.%I to pandom_user', name);
    execute format(
        'comment on table public.%I is %L', name,
        'A partition of ' || log || '; reached through its parent only. T3'
    );
end
$$;

comment on function public.protect_partition(text, text) is
'Gives a partition row security, FORCE, policies, grants and a comment. P2';

-- How an application records an event of its own (P5).
--
-- User, time and address are the database's, not the caller's; the database's own
-- event types are refused. Errors: a reserved or malformed event type, details
-- that are no object or exceed 8 KiB.
set local role pandom_trail;

create or replace function public.record_event(event_type text, details jsonb default '{}')
returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
    if record_event.event_type is null
        or record_event.event_type !~ '^[a-z][a-z0-9_]{2,99}$'
    then
        raise exception 'event type must be 3 to 100 of a-z, 0-9 and _, starting with a letter'
            using errcode = 'invalid_parameter_value';
    end if;
    if public.is_reserved_event_type(record_event.event_type) then
        raise exception 'event type % is written by the database only', record_event.event_type
            using errcode = 'insufficient_privilege';
    end if;
    if record_event.details is null or jsonb_typeof(record_event.details) <> 'object' then
        raise exception 'details of an event must be a JSON object'
            using errcode = 'invalid_parameter_value';
    end if;
    if octet_length(record_event.details::text) > 8192 then
        raise exception 'details of an event must not exceed 8192 bytes'
            using errcode = 'program_limit_exceeded';
    end if;
    insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
    values (
        public.current_user_id(), record_event.event_type, record_event.details,
        public.client_address(), public.client_agent()
    );
end
$$;

comment on function public.record_event(text, jsonb) is
'Records an event of the application; sets user, time and address itself. P5';

-- Exchanges a refresh token for a new session and a new refresh token (P3).
--
-- Returns one row, or none when the token is unknown, used, expired, or its user
-- inactive. A refresh token works once.
set local role pandom_definer;

create or replace function public.refresh_session(refresh_token text)
returns table (
    user_uuid uuid,
    session_token text,
    session_expires_at timestamptz,
    new_refresh_token text,
    refresh_expires_at timestamptz
)
language plpgsql
security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
    owner uuid;
begin
    select u.uuid into owner
    from public.auth_users as u
    where u.refresh_token = public.token_digest(refresh_session.refresh_token)
        and u.refresh_token_expires > current_timestamp
        and u.is_active
    for no key update;
    if not found then
        return;
    end if;
    perform public.write_event('audit_logs', owner, 'session_refreshed', 'info', '{}');
    return query
    select owner, o.* from public.open_session(owner) as o;
end
$$;

comment on function public.refresh_session(text) is
'Exchanges a refresh token, once, for a new session and refresh token. P3';

-- Registers a user and sends a verification token (P3).
--
-- Returns nothing, and does the same work, whether or not the e-mail is taken: the
-- holder of a taken one gets a message that says so. Errors: a malformed e-mail, a
-- password out of bounds, metadata that is no object.
set local role pandom_definer;

create or replace function public.register(
    email text,
    password text,
    tags text[] default '{}',
    metadata jsonb default '{}',
    hash_key text default null
)
returns void
language plpgsql
security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
    fresh constant record := public.hash_password(register.password, register.hash_key);
    token constant text := public.new_token();
    lifetime interval;
    profile uuid;
    account uuid;
begin
    select s.verification_lifetime into strict lifetime from public.account_settings as s;
    if register.email is null or length(register.email) > 255
        or register.email !~* '^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$'
    then
        raise exception 'this is not an e-mail address'
            using errcode = 'invalid_parameter_value';
    end if;
    if register.metadata is null or jsonb_typeof(register.metadata) <> 'object' then
        raise exception 'metadata must be a JSON object'
            using errcode = 'invalid_parameter_value';
    end if;
    begin
        insert into public.user_profiles as p (tags, metadata)
        values (coalesce(register.tags, '{}'), register.metadata)
        returning p.uuid into profile;
        insert into public.auth_users as u (
            email, password_hash, password_hash_encrypted, profile_uuid,
            verification_token, verification_expires
        )
        values (
            register.email, fresh.clear, fresh.encrypted, profile,
            public.token_digest(token), current_timestamp + lifetime
        )
        returning u.uuid into account;
    exception
        when unique_violation then
            perform public.send_message('already_registered', u.email, null, lifetime)
            from public.auth_users as u
            where lower(u.email) = lower(register.email);
            return;
    end;
    perform public.send_message('verify_email', register.email, token, lifetime);
    perform public.write_event('audit_logs', account, 'user_registered', 'info', '{}');
end
$$;

comment on function public.register(text, text, text[], jsonb, text) is
'Registers a user and sends a verification token; says nothing about who exists. P3';

-- Sends a reset token to the holder of an e-mail (P3).
--
-- Returns nothing, whether or not the e-mail exists. A second request within a
-- minute sends nothing new, so that nobody can flood a mailbox.
set local role pandom_definer;

create or replace function public.request_password_reset(email text)
returns void
language plpgsql
security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
    token constant text := public.new_token();
    lifetime interval;
    account record;
begin
    select s.reset_lifetime into strict lifetime from public.account_settings as s;
    update public.auth_users as u
    set reset_token = public.token_digest(token),
        reset_token_expiry = current_timestamp + lifetime
    where lower(u.email) = lower(request_password_reset.email)
        and u.is_active
        and (
            u.reset_token_expiry is null
            or u.reset_token_expiry < current_timestamp + lifetime - interval '1 minute'
        )
    returning u.uuid, u.email into account;
    if found then
        perform public.send_message('reset_password', account.email, token, lifetime);
        perform public.write_event(
            'security_logs', account.uuid, 'password_reset_requested', 'info', '{}'
        );
    end if;
end
$$;

comment on function public.request_password_reset(text) is
'Sends a reset token to the holder of an e-mail; says nothing about who exists. P3';

-- Puts a message into the outbox, in place of an older one of its kind (P3).
set local role pandom_definer;

create or replace function public.send_message(
    kind text, email text, token text, lifetime interval
)
returns void
language plpgsql
set search_path = ''
as $$
begin
    delete from public.outbox as o
    where o.kind = send_message.kind and o.email = send_message.email;
    insert into public.outbox (kind, email, token, expires_at)
    values (
        send_message.kind, send_message.email, send_message.token,
        current_timestamp + send_message.lifetime
    );
end
$$;

comment on function public.send_message(text, text, text, interval) is
'Puts a message into the outbox, in place of an older one of its kind. P3';

-- Stores a new password of a user, encrypted where the setting says so (P1, P3).
--
-- Ends the user's sessions and withdraws reset and refresh tokens: whoever knew the
-- old password is out. Errors: a password that is too short or longer than bcrypt
-- looks at; encryption without a key.
set local role pandom_definer;

create or replace function public.set_password(
    user_uuid uuid, new_password text, hash_key text
)
returns void
language plpgsql
set search_path = ''
as $$
declare
    fresh constant record := public.hash_password(set_password.new_password, set_password.hash_key);
begin
    update public.auth_users as u
    set password_hash = fresh.clear,
        password_hash_encrypted = fresh.encrypted,
        reset_token = null,
        reset_token_expiry = null,
        refresh_token = null,
        refresh_token_expires = null
    where u.uuid = set_password.user_uuid;
    delete from public.sessions as s
    where s.user_uuid = set_password.user_uuid;
end
$$;

comment on function public.set_password(uuid, text, text) is
'Stores a new password, ends the user''s sessions and withdraws tokens. P1 P3';

-- Keeps updated_at true on every UPDATE, whoever writes (T7).
set local role pandom_owner;

create or replace function public.set_updated_at()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
    new.updated_at := current_timestamp;
    return new;
end
$$;

comment on function public.set_updated_at() is
'Trigger: sets updated_at to the time of the transaction. T7';

-- Signs a user in by e-mail and password (P3).
--
-- Returns one row, or none: for an unknown e-mail, a wrong password, an inactive or
-- unverified account and a throttled attempt alike. hash_key is needed where hashes
-- are encrypted (P1). Writes login_succeeded, login_failed or login_throttled.
set local role pandom_definer;

create or replace function public.sign_in(email text, password text, hash_key text default null)
returns table (
    user_uuid uuid,
    session_token text,
    session_expires_at timestamptz,
    refresh_token text,
    refresh_expires_at timestamptz
)
language plpgsql
security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
    account public.auth_users;
    digest constant bytea := sha256(convert_to(lower(sign_in.email), 'UTF8'));
    address constant inet := coalesce(public.client_address(), '0.0.0.0'::inet);
    refusal text;
begin
    if digest is null then
        return;
    end if;
    if public.sign_in_locked(digest, address) then
        perform public.write_event('audit_logs', null, 'login_throttled', 'warning', '{}');
        return;
    end if;
    select u.* into account
    from public.auth_users as u
    where lower(u.email) = lower(sign_in.email);
    refusal := case
        when not public.password_matches(account, sign_in.password, sign_in.hash_key)
            then 'credentials'
        when not account.is_active then 'inactive'
        when not account.is_verified then 'unverified'
    end;
    if refusal is not null then
        insert into public.sign_in_attempts as a (email_digest, address, failures, last_failed_at)
        values (digest, address, 1, clock_timestamp())
        on conflict (email_digest, address) do update
            set failures = a.failures + 1, last_failed_at = excluded.last_failed_at;
        perform public.write_event(
            'audit_logs', null, 'login_failed', 'warning',
            jsonb_build_object('subject', account.uuid, 'reason', refusal)
        );
        return;
    end if;
    insert into public.sign_in_attempts as a (email_digest, address, last_succeeded_at)
    values (digest, address, clock_timestamp())
    on conflict (email_digest, address) do update
        set failures = 0, last_succeeded_at = excluded.last_succeeded_at;
    perform public.write_event('audit_logs', account.uuid, 'login_succeeded', 'info', '{}');
    return query
    select account.uuid, o.* from public.open_session(account.uuid) as o;
end
$$;

comment on function public.sign_in(text, text, text) is
'Signs a user in by e-mail and password; one row, or none whatever the reason. P3';

-- Whether sign-in for this e-mail from this address has to wait (P3).
--
-- A pair of e-mail and address that failed too often waits, longer each time, up to
-- lock_limit. Failures from many addresses slow down every address from which the
-- owner has not signed in before: a stranger can lock nobody out for good. The
-- answer depends on attempts only, not on whether the e-mail exists.
set local role pandom_definer;

create or replace function public.sign_in_locked(email_digest bytea, address inet)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
declare
    rules public.account_settings;
    pair public.sign_in_attempts;
    everywhere record;
begin
    select s.* into strict rules from public.account_settings as s;
    select a.* into pair
    from public.sign_in_attempts as a
    where a.email_digest = sign_in_locked.email_digest
        and a.address = sign_in_locked.address;
    if pair.failures >= rules.failures_before_lock
        and current_timestamp < pair.last_failed_at + least(
            rules.lock_limit,
            rules.lock_base * power(
                2, least(pair.failures - rules.failures_before_lock, 20)
            )
        )
    then
        return true;
    end if;
    if pair.last_succeeded_at is not null then
        return false;
    end if;
    select sum(a.failures) as failures, max(a.last_failed_at) as last_failed_at
    into everywhere
    from public.sign_in_attempts as a
    where a.email_digest = sign_in_locked.email_digest
        and a.last_failed_at > current_timestamp - interval '1 day';
    return coalesce(
        everywhere.failures >= rules.failures_before_slow
        and current_timestamp < everywhere.last_failed_at + rules.slow_interval,
        false
    );
end
$$;

comment on function public.sign_in_locked(bytea, inet) is
'Whether sign-in for this e-mail from this address has to wait. P3';

-- Ends the session of a token, and its user's refresh token (P3).
--
-- Returns whether there was such a session.
set local role pandom_definer;

create or replace function public.sign_out(session_token text)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
    owner uuid;
begin
    delete from public.sessions as s
    where s.token = public.token_digest(sign_out.session_token)
    returning s.user_uuid into owner;
    if not found then
        return false;
    end if;
    update public.auth_users as u
    set refresh_token = null, refresh_token_expires = null
    where u.uuid = owner and u.refresh_token is not null;
    perform public.write_event('audit_logs', owner, 'session_ended', 'info', '{}');
    return true;
end
$$;

comment on function public.sign_out(text) is
'Ends the session of a token; whether there was one. P3';

-- Verifies an account, or a new e-mail of one, by the token sent there (P3).
--
-- Returns whether the token was good. A token works once and expires.
set local role pandom_definer;

create or replace function public.verify_email(token text)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
    digest constant text := public.token_digest(verify_email.token);
    account uuid;
    change public.email_changes;
    former text;
begin
    update public.auth_users as u
    set is_verified = true, verification_token = null, verification_expires = null
    where u.verification_token = digest
        and u.verification_expires > current_timestamp
        and u.is_active
    returning u.uuid into account;
    if found then
        perform public.write_event('audit_logs', account, 'user_verified', 'info', '{}');
        return true;
    end if;
    delete from public.email_changes as c
    where c.token = digest and c.expires_at > current_timestamp
    returning c.* into change;
    if not found then
        return false;
    end if;
    select u.email into former from public.auth_users as u where u.uuid = change.user_uuid;
    begin
        update public.auth_users as u
        set email = change.new_email, is_verified = true
        where u.uuid = change.user_uuid and u.is_active;
        if not found then
            return false;
        end if;
    exception
        when unique_violation then
            return false;
    end;
    perform public.send_message('email_changed', former, null, interval '7 days');
    perform public.write_event(
        'security_logs', change.user_uuid, 'email_changed', 'warning', '{}'
    );
    return true;
end
$$;

comment on function public.verify_email(text) is
'Verifies an account, or its new e-mail, by the token sent there. P3';

-- Writes one event of the database's own into the trail (P4, P5, T5).
--
-- Only the account functions may call it: unlike record_event() it takes the
-- actor and reserved event types as given.
set local role pandom_trail;

create or replace function public.write_event(
    log text, actor uuid, event_type text, severity text, details jsonb
)
returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
    if write_event.log = 'security_logs' then
        insert into public.security_logs
        (user_uuid, event_type, severity, details, ip_address, user_agent)
        values (
            write_event.actor, write_event.event_type, write_event.severity,
            write_event.details || jsonb_build_object('session_user', session_user),
            public.client_address(), public.client_agent()
        );
    else
        insert into public.audit_logs
        (user_uuid, event_type, severity, details, ip_address, user_agent)
        values (
            write_event.actor, write_event.event_type, write_event.severity,
            write_event.details || jsonb_build_object('session_user', session_user),
            public.client_address(), public.client_agent()
        );
    end if;
end
$$;

comment on function public.write_event(text, uuid, text, text, jsonb) is
'Writes an event of the database''s own; for the account functions only. P4 P5';
