//! What a trainer's model and datasets are, as far as hooks compare them.

/// The latest description of one rank.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// The client's number of it.
    pub number: u64,
    /// The model's class, as it is wrapped.
    pub model_class: String,
    /// In the order of `named_modules()`: the model itself first, each object once, under its first name.
    pub modules: Vec<Module>,
    /// What it trains on.
    pub train: Option<Dataset>,
    /// What it validates on.
    pub val: Option<Dataset>,
}

/// One module of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Module {
    /// "roi_head.bbox_head"; of the model itself "".
    pub name: String,
    /// Its class.
    pub class_name: String,
    /// None: it has no attribute `num_classes`.
    pub num_classes: Option<NumClasses>,
    /// An instance of mmcv's VGG.
    pub is_vgg: bool,
    /// An instance of mmdet's FusedSemanticHead.
    pub is_fused_semantic_head: bool,
}

/// The value of an attribute `num_classes`, which may be anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NumClasses {
    /// As Python prints it.
    pub text: String,
    /// What it compares as; None: it is no number.
    pub number: Option<f64>,
}

/// One dataset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dataset {
    /// Its class.
    pub class_name: String,
    /// `classes` of its metainfo.
    pub classes: Classes,
}

/// What the names of a dataset's classes are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Classes {
    /// Not there, or None.
    #[default]
    Absent,
    /// Exactly a str: this one.
    Str(String),
    /// Anything else with a length.
    Sized {
        /// "tuple".
        type_name: String,
        /// How many there are.
        length: u64,
    },
}
