-- Takes the chain back that a downgrade left in schema trail_archive (M3).
set local role pandom_trail;

do $$
begin
    if to_regclass('trail_archive.trail_blocks') is not null then
        insert into public.trail_blocks select * from trail_archive.trail_blocks;
        drop table trail_archive.trail_blocks;
    end if;
end
$$;
