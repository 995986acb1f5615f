-- A user's bcrypt hash, decrypted where it is stored encrypted.
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
'A user''s bcrypt hash, decrypted where it is stored encrypted.';
