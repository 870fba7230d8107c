// SPDX-License-Identifier: GPL-2.0-only
#include <linux/file.h>
#include <linux/falloc.h>	/* after what has its types */
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/memcontrol.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <net/sock.h>

#include "arena.h"

/* UAPI promises; the worker maps the same bytes. */
static_assert(sizeof(struct dmm_arena_hdr) == 384);
static_assert(offsetof(struct dmm_arena_hdr, op_prod) == 64);
static_assert(offsetof(struct dmm_arena_hdr, ev_cons) == 128);
static_assert(offsetof(struct dmm_arena_hdr, op_cons) == 192);
static_assert(offsetof(struct dmm_arena_hdr, ev_prod) == 256);
static_assert(offsetof(struct dmm_arena_hdr, sleeping) == 320);
static_assert(sizeof(struct dmm_slot) == 3 * DMM_LINE);
static_assert(offsetof(struct dmm_slot, tx_cons) == DMM_LINE);
static_assert(offsetof(struct dmm_slot, srtt_us) == 2 * DMM_LINE);
static_assert(sizeof(struct dmm_op) == DMM_LINE);
static_assert(sizeof(struct dmm_event) == DMM_LINE);
static_assert(PAGE_SIZE % DMM_PAGE == 0);

static int arena_check(const struct dmm_arena_hdr *geo, loff_t size)
{
	if (geo->magic != DMM_ARENA_MAGIC || geo->version != DMM_ABI_VERSION)
		return -EPROTO;
	if (geo->features)
		return -EOPNOTSUPP;
	if (!dmm_arena_geometry_ok(geo))
		return -EINVAL;
	if (dmm_arena_size(geo) != size)
		return -EINVAL;
	/* Rings are pinned by whole pages. */
	if (dmm_arena_data_off(geo) % PAGE_SIZE ||
	    geo->tx_size % PAGE_SIZE || geo->rx_size % PAGE_SIZE)
		return -EINVAL;
	return 0;
}

/* The header alone, to learn the geometry that says how much to map. */
static int arena_read_geometry(struct file *file, struct dmm_arena_hdr *geo)
{
	struct folio *folio;
	pgoff_t offset;
	long n;

	if (i_size_read(file_inode(file)) < PAGE_SIZE)
		return -EINVAL;

	n = memfd_pin_folios(file, 0, PAGE_SIZE - 1, &folio, 1, &offset);
	if (n == -EINVAL)
		return -EBADF;	/* the size is fine: not a memfd */
	if (n < 0)
		return n;
	memcpy_from_folio((char *)geo, folio, 0, sizeof(*geo));
	unpin_folios(&folio, 1);

	return arena_check(geo, i_size_read(file_inode(file)));
}

static int arena_map_head(struct dmm_arena *arena)
{
	u64 len = PAGE_ALIGN(dmm_arena_data_off(&arena->geo));
	unsigned long npages = len >> PAGE_SHIFT, i, n = 0;
	struct page **pages;
	pgoff_t offset;
	long nfolios;
	int err = -ENOMEM;

	arena->folios = kvcalloc(npages, sizeof(*arena->folios), GFP_KERNEL);
	pages = kvcalloc(npages, sizeof(*pages), GFP_KERNEL);
	if (!arena->folios || !pages)
		goto out;

	nfolios = memfd_pin_folios(arena->file, 0, len - 1, arena->folios,
				   npages, &offset);
	if (nfolios < 0) {
		err = nfolios;
		goto out;
	}
	arena->nfolios = nfolios;

	for (i = 0; i < arena->nfolios; i++) {
		struct folio *folio = arena->folios[i];
		unsigned long j;

		for (j = 0; j < folio_nr_pages(folio) && n < npages; j++)
			pages[n++] = folio_page(folio, j);
	}
	/* A file that is cut while it is pinned comes out short. */
	if (n != npages) {
		err = -EINVAL;
		goto out;
	}

	arena->base = vmap(pages, npages, VM_MAP, PAGE_KERNEL);
	err = arena->base ? 0 : -ENOMEM;
out:
	kvfree(pages);
	return err;
}

/**
 * dmm_arena_get - take a worker's arena
 * @fd: the memfd
 *
 * May sleep. Return: the arena, to be given to dmm_arena_free(), or an ERR_PTR:
 * -EBADF no memfd opened for writing, -EPROTO other magic or version, -EOPNOTSUPP
 * features, -EINVAL geometry or size, -EPERM sealed against writing, -ENOMEM.
 */
struct dmm_arena *dmm_arena_get(int fd)
{
	struct dmm_arena *arena;
	int err;

	arena = kzalloc(sizeof(*arena), GFP_KERNEL_ACCOUNT);
	if (!arena)
		return ERR_PTR(-ENOMEM);

	err = -EBADF;
	arena->file = fget(fd);
	if (!arena->file)
		goto err_free;
	if (!(arena->file->f_mode & FMODE_WRITE) ||
	    !S_ISREG(file_inode(arena->file)->i_mode))
		goto err_fput;

	err = mapping_map_writable(arena->file->f_mapping);
	if (err)
		goto err_fput;

	err = arena_read_geometry(arena->file, &arena->geo);
	if (err)
		goto err_unmap_writable;

	err = arena_map_head(arena);
	if (err)
		goto err_free_head;

	arena->hdr = arena->base;
	arena->ops = arena->base + DMM_ARENA_OPS_OFF;
	arena->events = arena->base + dmm_arena_events_off(&arena->geo);
	arena->slots = arena->base + dmm_arena_slots_off(&arena->geo);
	return arena;

err_free_head:
	if (arena->nfolios)
		unpin_folios(arena->folios, arena->nfolios);
	kvfree(arena->folios);
err_unmap_writable:
	mapping_unmap_writable(arena->file->f_mapping);
err_fput:
	fput(arena->file);
err_free:
	kfree(arena);
	return ERR_PTR(err);
}

/**
 * dmm_arena_free - undo dmm_arena_get()
 * @arena: the arena; no ring of it may be in use
 *
 * May sleep.
 */
void dmm_arena_free(struct dmm_arena *arena)
{
	vunmap(arena->base);
	unpin_folios(arena->folios, arena->nfolios);
	kvfree(arena->folios);
	mapping_unmap_writable(arena->file->f_mapping);
	fput(arena->file);
	kfree(arena);
}

/**
 * dmm_ring_init - make a byte ring usable
 * @ring: the ring
 * @off: offset of its first byte in the arena, page aligned
 * @size: bytes
 * @gfp: how to allocate
 *
 * Return: 0 or -ENOMEM.
 */
int dmm_ring_init(struct dmm_ring *ring, u64 off, u32 size, gfp_t gfp)
{
	ring->off = off;
	ring->size = size;
	mutex_init(&ring->lock);
	ring->pages = kcalloc(size >> PAGE_SHIFT, sizeof(*ring->pages),
			      gfp | __GFP_ACCOUNT);
	return ring->pages ? 0 : -ENOMEM;
}

static void ring_unpin(struct dmm_ring *ring)
{
	u32 i;

	for (i = 0; i < ring->size >> PAGE_SHIFT && ring->npages; i++) {
		if (!ring->pages[i])
			continue;
		unpin_user_page(ring->pages[i]);
		ring->pages[i] = NULL;
		ring->npages--;
	}
}

/**
 * dmm_ring_free - give back what dmm_ring_init() and the copies took
 * @ring: the ring, maybe never initialised
 *
 * In any context.
 */
void dmm_ring_free(struct dmm_ring *ring)
{
	if (!ring->pages)
		return;
	ring_unpin(ring);
	kfree(ring->pages);
	ring->pages = NULL;
}

/**
 * dmm_ring_let_go - hold none of an empty ring's pages any more
 * @ring: the ring; the caller holds the socket's spinlock, and nobody owns it
 *
 * The arena has them yet: dmm_ring_trim(), or the worker, gives them back.
 */
void dmm_ring_let_go(struct dmm_ring *ring)
{
	ring_unpin(ring);
	WRITE_ONCE(ring->trim, true);
}

/**
 * dmm_ring_punch - give the memory of a ring back
 * @arena: the arena
 * @ring: a ring of which nobody holds a page, and nobody will; its @off and @size
 *
 * May sleep. Should it fail, the memory stays: it is the arena's.
 */
void dmm_ring_punch(const struct dmm_arena *arena, const struct dmm_ring *ring)
{
	vfs_fallocate(arena->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      ring->off, ring->size);
}

/**
 * dmm_ring_trim - give the memory of a ring back that was let go
 * @arena: the arena
 * @ring: a ring that this side fills; kept alive by the caller
 *
 * Unless somebody writes to it again. May sleep, but for no program's sake.
 */
void dmm_ring_trim(const struct dmm_arena *arena, struct dmm_ring *ring)
{
	if (!READ_ONCE(ring->trim))
		return;
	mutex_lock(&ring->lock);
	if (ring->trim) {
		WRITE_ONCE(ring->trim, false);
		dmm_ring_punch(arena, ring);
	}
	mutex_unlock(&ring->lock);
}

/* Who pays for a page that is not there yet: whose socket it is. */
static struct mem_cgroup *owner_memcg(const struct sock *sk)
{
#ifdef CONFIG_MEMCG
	return sk->sk_memcg;
#else
	return NULL;
#endif
}

/* Pin the page that begins at @pos of the ring; NULL if it cannot be had. */
static struct page *ring_pin(const struct sock *sk,
			     const struct dmm_arena *arena,
			     struct dmm_ring *ring, u32 pos)
{
	loff_t start = ring->off + pos;
	struct mem_cgroup *old;
	struct folio *folio;
	pgoff_t offset;
	long ret;

	mutex_lock(&ring->lock);
	WRITE_ONCE(ring->trim, false);
	old = set_active_memcg(owner_memcg(sk));
	ret = memfd_pin_folios(arena->file, start, start + PAGE_SIZE - 1,
			       &folio, 1, &offset);
	set_active_memcg(old);
	mutex_unlock(&ring->lock);
	return ret < 0 ? NULL : folio_page(folio, offset >> PAGE_SHIFT);
}

/* The page that holds index @idx, pinned at the ring's first touch of it. */
static struct page *ring_page(const struct sock *sk,
			      const struct dmm_arena *arena,
			      struct dmm_ring *ring, u32 idx)
{
	u32 pos = idx & (ring->size - 1), n = pos >> PAGE_SHIFT;

	if (likely(ring->pages[n]))
		return ring->pages[n];
	ring->pages[n] = ring_pin(sk, arena, ring, n << PAGE_SHIFT);
	ring->npages += !!ring->pages[n];
	return ring->pages[n];
}

typedef size_t (*ring_copy_t)(struct page *page, size_t off, size_t len,
			      struct iov_iter *iter);

/* Page by page; bytes copied, or why none were. */
static ssize_t ring_copy(const struct sock *sk, const struct dmm_arena *arena,
			 struct dmm_ring *ring, u32 idx, size_t len,
			 struct iov_iter *iter, ring_copy_t copy)
{
	ssize_t done = 0;

	while (done < len) {
		size_t off = (idx + done) & (PAGE_SIZE - 1);
		size_t chunk = min(len - done, PAGE_SIZE - off), n;
		struct page *page = ring_page(sk, arena, ring, idx + done);

		if (!page)
			return done ?: -ENOMEM;
		n = copy(page, off, chunk, iter);
		done += n;
		if (n < chunk)
			return done ?: -EFAULT;
	}
	return done;
}

/**
 * dmm_ring_from_iter - copy into a ring
 * @sk: whose ring it is, and who pays for its pages; the caller holds its lock
 * @arena: the arena
 * @ring: one of its rings
 * @idx: free-running index to begin at
 * @len: bytes, at most the ring's size; the caller knows that the room is there
 * @from: whence; advanced
 *
 * May sleep. Return: bytes copied, fewer than @len if @from faults or a page cannot
 * be had; if none were, -EFAULT or -ENOMEM.
 */
ssize_t dmm_ring_from_iter(const struct sock *sk, const struct dmm_arena *arena,
			   struct dmm_ring *ring, u32 idx, size_t len,
			   struct iov_iter *from)
{
	return ring_copy(sk, arena, ring, idx, len, from, copy_page_from_iter);
}

/**
 * dmm_ring_to_iter - copy out of a ring
 * @sk: whose ring it is; the caller holds its lock
 * @arena: the arena
 * @ring: one of its rings
 * @idx: free-running index to begin at
 * @len: bytes, at most the ring's size; the caller knows that they are there
 * @to: whither; advanced
 *
 * May sleep. Return: as dmm_ring_from_iter().
 */
ssize_t dmm_ring_to_iter(const struct sock *sk, const struct dmm_arena *arena,
			 struct dmm_ring *ring, u32 idx, size_t len,
			 struct iov_iter *to)
{
	return ring_copy(sk, arena, ring, idx, len, to, copy_page_to_iter);
}
