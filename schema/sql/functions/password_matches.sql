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
