-- Counts a failed sign-in of an e-mail, existing or not, from an address.
set local role pandom_definer;

create or replace function public.note_failed_attempt(email_digest bytea, address inet)
returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.sign_in_attempts as a (email_digest, address, failures, last_failed_at)
    values (note_failed_attempt.email_digest, note_failed_attempt.address, 1, clock_timestamp())
    on conflict on constraint pk_sign_in_attempts do update
        set failures = a.failures + 1, last_failed_at = excluded.last_failed_at;
end
$$;

comment on function public.note_failed_attempt(bytea, inet) is
'Counts a failed sign-in of an e-mail, existing or not, from an address.';
