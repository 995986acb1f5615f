-- Extensions of the database; only a superuser can create pgaudit.
--
-- pgcrypto lives in schema public, where a plain dump finds it again, but nobody
-- except the account functions may execute it: crypt() burns 200 ms of CPU a call.
-- Its version is one that 17 and 18 both have, so that its functions are the same.
-- The extensions carry no comment: a dump would restore it, and only their owner may.
create extension if not exists pgcrypto with schema public version '1.3';
create extension if not exists pgaudit with schema public;

comment on extension pgcrypto is null;
comment on extension pgaudit is null;

do $$
declare
    routine regprocedure;
begin
    for routine in
        select d.objid::regprocedure
        from pg_catalog.pg_depend as d
        inner join pg_catalog.pg_extension as e on d.refobjid = e.oid
        where d.refclassid = 'pg_catalog.pg_extension'::regclass
            and d.classid = 'pg_catalog.pg_proc'::regclass
            and d.deptype = 'e'
            and e.extname in ('pgcrypto', 'pgaudit')
    loop
        execute format('revoke execute on function %s from public', routine);
    end loop;
end
$$;

grant execute on function public.crypt(text, text) to pandom_definer;
grant execute on function public.gen_salt(text, integer) to pandom_definer;
grant execute on function public.gen_random_bytes(integer) to pandom_definer;
grant execute on function public.hmac(bytea, bytea, text) to pandom_definer;
grant execute on function public.pgp_sym_encrypt(text, text, text) to pandom_definer;
grant execute on function public.pgp_sym_decrypt(bytea, text) to pandom_definer;
