// An array of M x N integer MACs, a filter to a row and an output position to a column, and the two buffers of weights
// in front of it.
//
// A visit, from `start` on, runs through so many slices for so many positions. Weights of a slice come one per cycle,
// filter by filter, channels, rows and columns inner; w_ready falls while both buffers are full, or, without
// start_overlap, while any is. slice_* stay as they are until the last weight of the slice is taken: how much of it lies
// in the layer. With start_whole all start_filters x ... x start_columns weights come, and those outside are dropped.
//
// A slice takes ceil(filters / M) * ceil(positions / N) rounds, a tap per cycle: every cycle reads a weight for each row
// and asks for the words of tap x_tap at positions x_position to x_position + N - 1, which are on `x` from the next
// cycle on until others are asked for; in that cycle they are multiplied. With slice_fresh sums start at 0, otherwise
// where the slice before left them; with slice_last they leave after the round's last product, those of rows and columns
// without work as zeros. The next slice, or visit, follows without a gap. The array waits while sums are not taken.
//
// A visit's cycles, cnt_cycles, end with its last read. A row has room for DEPTH weights of a slice, every MAC for the
// sums of ROUNDS rounds, at least 2.
module bsg_mac_array #(
    parameter integer M = 16,
    parameter integer N = 8,
    parameter integer WW = 10,
    parameter integer WX = 8,
    parameter integer ACC = 32,
    parameter integer DEPTH = 144,
    parameter integer ROUNDS = 16
) (
    input  wire                        clk,
    input  wire                        rst,

    input  wire                        start_valid,
    output wire                        start_ready,
    input  wire                        start_overlap,
    input  wire                        start_whole,
    input  wire [7:0]                  start_filters,
    input  wire [7:0]                  start_channels,
    input  wire [7:0]                  start_rows,
    input  wire [7:0]                  start_columns,
    input  wire [15:0]                 start_positions,
    input  wire [15:0]                 start_slices,

    input  wire                        w_valid,
    output wire                        w_ready,
    input  wire [WW-1:0]               w,
    input  wire [7:0]                  slice_filters,
    input  wire [7:0]                  slice_channels,
    input  wire [7:0]                  slice_rows,
    input  wire [7:0]                  slice_columns,
    input  wire                        slice_fresh,
    input  wire                        slice_last,

    output wire                        x_valid,
    output reg  [15:0]                 x_slice,
    output reg  [$clog2(2*DEPTH)-1:0]  x_tap,
    output reg  [15:0]                 x_position,
    input  wire [N*WX-1:0]             x,

    output reg                         out_valid,
    input  wire                        out_ready,
    output reg  [M*N*ACC-1:0]          out_sums,

    output reg  [31:0]                 cnt_cycles,
    output reg  [31:0]                 cnt_compute,
    output reg  [31:0]                 cnt_mac,
    output reg  [31:0]                 cnt_weights,
    output reg  [31:0]                 cnt_weight_write,
    output reg  [31:0]                 cnt_weight_read
);
    localparam AW = $clog2(2*DEPTH);
    localparam BW = $clog2(M+1);
    localparam RW = $clog2(ROUNDS);
    localparam P  = WW + WX;

    // The visit
    reg               overlap, whole;
    reg [7:0]         all_filters, all_channels, all_rows, all_columns;
    reg [15:0]        positions;
    reg [15:0]        fills_left, slices_left;  // slices whose weights have not all come; that are not computed

    // The buffers: which are full, and of what
    reg [1:0]         full, fresh, leaves;
    reg [7:0]         filters [0:1];
    reg [AW-1:0]      taps    [0:1];            // of one filter

    // The weight that comes next: buffer, place in the slice, row, and where it goes
    reg               fill;
    reg [7:0]         f, c, y, z;
    reg [BW-1:0]      row;
    reg [AW-1:0]      fill_block, tap;

    // The step that is done next, in buffer `read`
    reg               read;
    reg [7:0]         first_row;                // filters before this block of M
    reg [AW-1:0]      read_block;
    reg [RW-1:0]      round;

    // The step whose words are here
    reg               mac1, first1, last1, fresh1, leaves1;
    reg [RW-1:0]      round1;
    reg [M-1:0]       row_on1;
    reg [N-1:0]       column_on1;
    wire [M*WW-1:0]   weights1;

    reg [M*N*ACC-1:0] kept [0:ROUNDS-1];

    wire              take        = w_valid && w_ready;
    wire              in_filter   = f < slice_filters;
    wire              keep        = in_filter && c < slice_channels && y < slice_rows && z < slice_columns;
    wire              last_z      = z + 8'd1 == (whole ? all_columns : slice_columns);
    wire              last_y      = y + 8'd1 == (whole ? all_rows : slice_rows);
    wire              last_c      = c + 8'd1 == (whole ? all_channels : slice_channels);
    wire              last_f      = f + 8'd1 == (whole ? all_filters : slice_filters);
    wire              end_filter  = last_z && last_y && last_c;
    wire              filled      = take && end_filter && last_f;
    wire              last_row    = row + 1'b1 == M[BW-1:0];
    wire [AW-1:0]     tap_then    = tap + {{(AW-1){1'b0}}, keep};
    wire [AW-1:0]     write_at    = fill_block + tap;

    wire              hold        = out_valid && !out_ready;
    wire              step        = full[read] && !hold;
    wire [AW-1:0]     taps_now    = taps[read];
    wire [7:0]        rows_left   = filters[read] - first_row;
    wire [15:0]       columns_left = positions - x_position;
    wire              last_tap    = x_tap + 1'b1 == taps_now;
    wire              last_column = columns_left <= N[15:0];
    wire              last_block  = {8'd0, rows_left} <= M[15:0];
    wire [BW-1:0]     rows_now    = last_block ? rows_left[BW-1:0] : M[BW-1:0];
    wire [15:0]       columns_now = last_column ? columns_left : N[15:0];
    wire              end_round   = step && last_tap;
    wire              computed    = end_round && last_column && last_block;
    wire [AW-1:0]     read_at     = read_block + x_tap;
    wire [M*N*ACC-1:0] so_far     = !first1 ? out_sums : fresh1 ? {(M*N*ACC){1'b0}} : kept[round1];
    wire              busy        = slices_left != 16'd0;
    wire              starting    = start_valid && start_ready;

    assign start_ready = !busy || (computed && slices_left == 16'd1);
    assign w_ready     = fills_left != 16'd0 && !full[fill] && (overlap || full == 2'd0);
    assign x_valid     = step;

    always @(posedge clk) begin
        if (rst) begin
            fills_left <= 16'd0;
            slices_left <= 16'd0;
            x_slice <= 16'd0;
        end else if (starting) begin
            overlap <= start_overlap;
            whole <= start_whole;
            all_filters <= start_filters;
            all_channels <= start_channels;
            all_rows <= start_rows;
            all_columns <= start_columns;
            positions <= start_positions;
            fills_left <= start_slices;
            slices_left <= start_slices;
            x_slice <= 16'd0;
        end else begin
            if (filled) fills_left <= fills_left - 16'd1;
            if (computed) begin
                slices_left <= slices_left - 16'd1;
                x_slice <= x_slice + 16'd1;
            end
        end
    end

    // Weights come in.
    always @(posedge clk) begin
        if (rst) begin
            fill <= 1'b0;
            f <= 8'd0;
            c <= 8'd0;
            y <= 8'd0;
            z <= 8'd0;
            row <= {BW{1'b0}};
            fill_block <= {AW{1'b0}};
            tap <= {AW{1'b0}};
        end else if (take) begin
            z <= last_z ? 8'd0 : z + 8'd1;
            if (last_z) y <= last_y ? 8'd0 : y + 8'd1;
            if (last_z && last_y) c <= last_c ? 8'd0 : c + 8'd1;
            tap <= end_filter ? {AW{1'b0}} : tap_then;
            if (end_filter) begin
                f <= last_f ? 8'd0 : f + 8'd1;
                row <= last_f || last_row ? {BW{1'b0}} : row + 1'b1;
                if (in_filter) taps[fill] <= tap_then;
                if (last_f) fill_block <= fill ? {AW{1'b0}} : DEPTH[AW-1:0];
                else if (last_row) fill_block <= fill_block + tap_then;
            end
            if (filled) begin
                filters[fill] <= slice_filters;
                fresh[fill] <= slice_fresh;
                leaves[fill] <= slice_last;
                fill <= !fill;
            end
        end
    end

    genvar r;
    generate
        for (r = 0; r < M; r = r + 1) begin : bank
            reg [WW-1:0] words [0:2*DEPTH-1];
            reg [WW-1:0] word;
            assign weights1[r*WW +: WW] = word;
            always @(posedge clk) begin
                if (take && keep && row == r) words[write_at] <= w;
                if (step && rows_left > r) word <= words[read_at];
            end
        end
    endgenerate

    // Steps: taps, positions, filters of a slice.
    always @(posedge clk) begin
        if (rst) begin
            full <= 2'd0;
            read <= 1'b0;
            x_tap <= {AW{1'b0}};
            x_position <= 16'd0;
            first_row <= 8'd0;
            read_block <= {AW{1'b0}};
            round <= {RW{1'b0}};
        end else begin
            if (filled) full[fill] <= 1'b1;
            if (step) x_tap <= last_tap ? {AW{1'b0}} : x_tap + 1'b1;
            if (end_round) begin
                x_position <= last_column ? 16'd0 : x_position + N[15:0];
                round <= computed ? {RW{1'b0}} : round + 1'b1;
            end
            if (end_round && last_column && !last_block) begin
                first_row <= first_row + M[7:0];
                read_block <= read_block + taps_now;
            end
            if (computed) begin
                first_row <= 8'd0;
                read_block <= read ? {AW{1'b0}} : DEPTH[AW-1:0];
                full[read] <= 1'b0;
                read <= !read;
            end
        end
    end

    // Multiply and add.
    integer i, j;
    reg signed [P-1:0]       product;
    reg        [M*N*ACC-1:0] sums;
    always @* begin
        product = {P{1'b0}};
        sums = so_far;
        for (i = 0; i < M; i = i + 1)
            for (j = 0; j < N; j = j + 1)
                if (row_on1[i] && column_on1[j]) begin
                    product = $signed(weights1[i*WW +: WW]) * $signed(x[j*WX +: WX]);
                    sums[(i*N+j)*ACC +: ACC] = so_far[(i*N+j)*ACC +: ACC] + {{(ACC-P){product[P-1]}}, product};
                end
    end

    integer n;
    always @(posedge clk) begin
        if (rst) begin
            mac1 <= 1'b0;
            out_valid <= 1'b0;
            out_sums <= {(M*N*ACC){1'b0}};
        end else if (!hold) begin
            mac1 <= step;
            out_valid <= mac1 && last1 && leaves1;
            if (mac1) out_sums <= sums;
        end
        if (mac1 && !hold && last1 && !leaves1) kept[round1] <= sums;
        if (step) begin
            first1 <= x_tap == {AW{1'b0}};
            last1 <= last_tap;
            fresh1 <= fresh[read];
            leaves1 <= leaves[read];
            round1 <= round;
            for (n = 0; n < M; n = n + 1) row_on1[n] <= rows_left > n[7:0];
            for (n = 0; n < N; n = n + 1) column_on1[n] <= columns_left > n[15:0];
        end
    end

    integer b;
    reg [15:0] macs;                            // rows x columns with work
    always @* begin
        macs = 16'd0;
        for (b = 0; b < BW; b = b + 1)
            if (rows_now[b]) macs = macs + (columns_now << b);
    end

    always @(posedge clk) begin
        if (rst) begin
            cnt_cycles <= 32'd0;
            cnt_compute <= 32'd0;
            cnt_mac <= 32'd0;
            cnt_weights <= 32'd0;
            cnt_weight_write <= 32'd0;
            cnt_weight_read <= 32'd0;
        end else begin
            if (busy) cnt_cycles <= cnt_cycles + 32'd1;
            if (step) begin
                cnt_compute <= cnt_compute + 32'd1;
                cnt_mac <= cnt_mac + {16'd0, macs};
                cnt_weight_read <= cnt_weight_read + {{(32-BW){1'b0}}, rows_now};
            end
            if (take) cnt_weights <= cnt_weights + 32'd1;
            if (take && keep) cnt_weight_write <= cnt_weight_write + 32'd1;
        end
    end
endmodule
